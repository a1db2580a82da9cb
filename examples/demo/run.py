"""The whole method at small scale: ``make demo``, or ``python -m examples.demo.run``.

Generates a corpus of talking faces, pre-trains on it without labels, mid-trains on translations,
fine-tunes on a few transcripts, and compares the recogniser with two that leave stages out:

* ``scratch``: fine-tuning alone;
* ``pretrained``: stage 1, then fine-tuning;
* ``midtrained``: stages 1 and 2, then fine-tuning.

All three see the same transcripts for the same number of updates with the encoder trainable, and
decode the same test set. What is done is not done again; what was interrupted goes on.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from examples.stages import decode, run_step, seconds, train
from manifests.common import atomic_path
from mmpt_fairseq.errors import exit_on_input_error

CONFIG = Path("examples/demo/config")


@dataclass
class Sizes:
    """How much of everything: clips, updates."""

    pretrain: int = 1200
    translated: int = 2000
    transcribed: int = 250
    test: int = 200
    pretraining_updates: int = 160
    midtraining_updates: int = 600
    finetuning_updates: int = 220


def run(out: Path, sizes: Sizes, language: str = "it", seed: int = 1) -> dict:
    """Run every step that is not done yet in ``out``; returns the results."""
    corpus = out / "corpus"
    generate_corpus(corpus, sizes, seed)
    translation, recognition = corpus / f"st_en-{language}", corpus / "asr"
    common = [f"common.seed={seed}"]
    pretrained = train(
        CONFIG,
        "pretraining",
        corpus / "pretrain",
        out / "pretrained",
        [*common, f"optimization.max_update={sizes.pretraining_updates}"],
    )
    midtrained = train(
        CONFIG,
        "midtraining",
        translation,
        out / "midtrained",
        [
            *common,
            f"optimization.max_update={sizes.midtraining_updates}",
            f"model.init_encoder_from={pretrained}",
        ],
    )
    bleu = decode(
        midtrained, translation, "test", out / "midtrained" / "decoded", "bleu", ["--beam", "5"]
    )
    starts = {"scratch": "null", "pretrained": pretrained, "midtrained": midtrained}
    wer, cer = {}, {}
    for name, start in starts.items():
        rates = recognise(recognition, out / f"asr_{name}", start, sizes, common)
        wer[name], cer[name] = rates["wer"], rates["cer"]
    return {
        "wer": wer,
        "cer": cer,
        "bleu": bleu["bleu"],
        "seconds": {
            str(done.parent.relative_to(out)): round(seconds(done.parent), 1)
            for done in sorted(out.rglob("done.json"))
        },
        "checkpoints": {
            "pretrained": str(pretrained),
            "midtrained": str(midtrained),
            "asr": str(out / "asr_midtrained" / "checkpoint_best.pt"),
        },
        "sizes": vars(sizes),
        "language": language,
        "seed": seed,
    }


def generate_corpus(corpus: Path, sizes: Sizes, seed: int) -> None:
    """Talking faces, and the vocabularies of the two kinds of text."""
    run_step(
        [
            *("python", "-m", "manifests.generated", str(corpus), "--seed", str(seed)),
            *("--pretrain", str(sizes.pretrain), "--translated", str(sizes.translated)),
            *("--transcribed", str(sizes.transcribed), "--test", str(sizes.test)),
        ],
        corpus,
    )
    for folder, kind in [(corpus / "asr", "char")] + [
        (path, "unigram") for path in sorted(corpus.glob("st_*"))
    ]:
        command = ["python", "-m", "manifests.vocabulary", str(folder), "--kind", kind]
        run_step([*command, "--size", "500"], folder / "vocabulary", [folder / "train.tsv"])


def recognise(data: Path, folder: Path, start: object, sizes: Sizes, common: list[str]) -> dict:
    """Fine-tune from ``start`` and decode the test set by CTC."""
    checkpoint = train(
        CONFIG,
        "finetuning",
        data,
        folder,
        [
            *common,
            f"optimization.max_update={sizes.finetuning_updates}",
            f"model.init_encoder_from={start}",
        ],
    )
    return decode(checkpoint, data, "test", folder / "decoded", "wer", ["--decoding", "ctc"])


def table(results: dict) -> str:
    """The results as people read them."""
    base = results["wer"]["scratch"]
    lines = ["recogniser     WER %    CER %    WER against scratch"]
    for name, wer in results["wer"].items():
        lines.append(
            f"{name:<12} {wer:7.2f}  {results['cer'][name]:7.2f}    {(wer - base) / base:+.1%}"
        )
    lines.append(f"translation (en-{results['language']}): BLEU {results['bleu']:.2f}")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--language", choices=["de", "it", "nl"], default="it")
    parser.add_argument("--seed", type=int, default=1)
    for name, value in vars(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    args = vars(parser.parse_args())
    out, language, seed = args.pop("out"), args.pop("language"), args.pop("seed")
    started = time.monotonic()
    with exit_on_input_error():
        results = run(out, Sizes(**args), language, seed)
    with atomic_path(out / "results.json") as partial:
        partial.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(table(results))
    print(
        f"{out / 'results.json'} written after {time.monotonic() - started:.0f} s; to run finished "
        f"steps anew, move {out} away",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
