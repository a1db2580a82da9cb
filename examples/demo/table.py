"""The demo's results: read from its folders, as numbers and as people read them."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from examples.stages import seconds
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.report.intervals import Counts, count, mean_interval, relative_difference
from mmpt_fairseq.report.scores import read_hypotheses

BASELINE = "scratch"


def results(demo, recognisers: dict, seeds: Sequence[int]) -> dict:
    """Scores of every recogniser and translation: means over seeds, each seed, intervals."""
    rates = {
        unit: {
            name: [_counts(demo, demo.folder(seed, f"asr_{name}"), "asr", unit) for seed in seeds]
            for name in recognisers
        }
        for unit in ("word", "char")
    }
    translations = {
        r.midtrained: [
            _counts(demo, demo.folder(s, r.midtrained), f"st_en-{r.midtraining}", "bleu")
            for s in seeds
        ]
        for r in recognisers.values()
        if r.midtrained
    }
    words = rates["word"]
    start = recognisers["midtrained"]
    folders = {
        "pretrained": demo.folder(seeds[0], start.pretrained),
        "midtrained": demo.folder(seeds[0], start.midtrained),
        "asr": demo.folder(seeds[0], "asr_midtrained"),
    }
    return {
        "wer": {name: _mean(counts) for name, counts in words.items()},
        "cer": {name: _mean(counts) for name, counts in rates["char"].items()},
        "bleu": _mean(translations[start.midtrained]),
        "wer_interval": {name: _interval(mean_interval(c)) for name, c in words.items()},
        "wer_against_scratch": {
            name: _interval(relative_difference(counts, words[BASELINE]))
            for name, counts in words.items()
            if name != BASELINE
        },
        "wer_of_seeds": {name: [c.value for c in counts] for name, counts in words.items()},
        "bleu_of_seeds": {name: [c.value for c in counts] for name, counts in translations.items()},
        "seconds": {
            str(done.parent.relative_to(demo.out)): round(seconds(done.parent), 1)
            for done in sorted(demo.out.rglob("done.json"))
        },
        "checkpoints": {name: str(path / "checkpoint_best.pt") for name, path in folders.items()},
        "language": demo.language,
        "seeds": list(seeds),
        "sizes": vars(demo.sizes),
    }


def table(found: dict) -> str:
    """The results as people read them."""
    several = len(found["seeds"]) > 1
    spread = " ± deviation over seeds" if several else ""
    lines = [f"{'recogniser':<30} WER % [95 % interval]{spread}   CER %   WER against scratch"]
    for name, wer in found["wer"].items():
        low, high = found["wer_interval"][name][1:]
        deviation = f" ± {stdev(found['wer_of_seeds'][name]):4.1f}" if several else ""
        gain = ""
        if name in found["wer_against_scratch"]:
            value, *ends = found["wer_against_scratch"][name]
            gain = f"{value:+.1f} % [{ends[0]:+.1f}, {ends[1]:+.1f}]"
        lines.append(
            f"{name:<30} {wer:5.1f} [{low:.1f}, {high:.1f}]{deviation}   {found['cer'][name]:5.1f}"
            f"   {gain}"
        )
    for name, values in found["bleu_of_seeds"].items():
        lines.append(f"{name}: BLEU {mean(values):.1f}")
    return "\n".join(lines)


def _counts(demo, folder: Path, data: str, unit: str) -> Counts:
    """Errors of the utterances of a training's decoded test set."""
    manifest = Manifest(demo.corpus / data / "test.tsv")
    hypotheses = read_hypotheses(folder / "decoded" / "generate-test.txt", len(manifest))
    return count(list(manifest.column("tgt_text")), hypotheses, unit)


def _mean(counts: Sequence[Counts]) -> float:
    return mean(c.value for c in counts)


def _interval(interval) -> list[float]:
    return [round(x, 2) for x in (interval.value, interval.low, interval.high)]
