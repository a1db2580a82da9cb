"""The three stages on real speech: ``python -m examples.mboshi.run --data DIR``.

Pre-training on GRID's talking face and on untranscribed speech (Mboshi, LibriSpeech
train-clean-100, ARCTIC), mid-training on Mboshi speech to French, fine-tuning on a few minutes of
Mboshi transcripts, decoding Mboshi's dev split whole and its unseen sentences alone. Every stage
is killed once half-way and goes on from its last checkpoint.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from examples.mboshi.prepare import prepare
from examples.stages import decode, seconds, train
from manifests.common import atomic_path
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.errors import exit_on_input_error
from mmpt_fairseq.report.scores import error_rates, normalise_text, read_hypotheses

CONFIG = Path("examples/demo/config")


def run(data: Path, out: Path, minutes: float, updates: tuple[int, int, int], seed: int) -> dict:
    """Every step that is not done yet; returns the scores."""
    manifests = out / "manifests"
    if not (manifests / "counts.json").is_file():
        counts = prepare(data, manifests, minutes)
        with atomic_path(manifests / "counts.json") as partial:
            partial.write_text(json.dumps(counts), encoding="utf-8")
    counts = json.loads((manifests / "counts.json").read_text())
    checkpoints, start = {}, "null"
    stages = [("pretraining", "pretrain"), ("midtraining", "st"), ("finetuning", "asr")]
    for (name, folder), total in zip(stages, updates, strict=True):
        half = total // 2
        overrides = [
            f"common.seed={seed}",
            f"optimization.max_update={total}",
            f"checkpoint.save_interval_updates={half}",
            "checkpoint.keep_interval_updates=1",
            *([] if name == "pretraining" else [f"model.init_encoder_from={start}"]),
        ]
        start = train(CONFIG, name, manifests / folder, out / name, overrides, interrupt_at=half)
        checkpoints[name] = str(start)
    translation = decode(
        out / "midtraining" / "checkpoint_best.pt",
        manifests / "st",
        "dev",
        out / "decoded_st",
        "bleu",
        ["--beam", "5"],
    )
    options = ["--decoding", "ctc"]
    decoded = out / "decoded_asr"
    rates = decode(start, manifests / "asr", "dev", decoded, "wer", options)
    return {
        "dev": rates,
        "dev_unseen_sentences": unseen(manifests, decoded / "generate-dev.txt"),
        "bleu_dev": translation["bleu"],
        "rows": counts,
        "updates": updates,
        "seconds": {name: round(seconds(out / name), 1) for name, _ in stages},
        "checkpoints": checkpoints,
        "seed": seed,
    }


def unseen(manifests: Path, output: Path) -> dict[str, float]:
    """Error rates on the dev sentences that no row of any stage says, with their number.

    Mid-training hears the sentences too, under French targets: its transcripts count as seen.
    """
    dev = Manifest(manifests / "asr" / "dev.tsv")
    known = {
        normalise_text(text)
        for folder in ("st", "asr")
        for split in ("train", "valid")
        for text in Manifest(manifests / folder / f"{split}.tsv").column("src_text")
    }
    pairs = [
        (reference, hypothesis)
        for reference, hypothesis in zip(
            dev.column("tgt_text"), read_hypotheses(output, len(dev)), strict=True
        )
        if normalise_text(reference) not in known
    ]
    references, hypotheses = zip(*pairs, strict=True)
    return {**error_rates(references, hypotheses), "rows": len(pairs)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--out", type=Path, default=Path("runs/mboshi"))
    parser.add_argument("--minutes", type=float, default=30.0, help="of transcripts")
    parser.add_argument("--updates", type=int, nargs=3, default=(100, 200, 200))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    started = time.monotonic()
    with exit_on_input_error():
        results = run(args.data, args.out, args.minutes, tuple(args.updates), args.seed)
    with atomic_path(args.out / "results.json") as partial:
        partial.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({k: results[k] for k in ("dev", "dev_unseen_sentences", "bleu_dev")}))
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
