"""Collect the demo's results from its folders and format them as a table."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from statistics import mean

from examples.demo.systems import Demo, Recogniser
from examples.stages import seconds
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.report.intervals import Interval, mean_interval, relative_difference
from mmpt_fairseq.report.summary import (
    count_decoded,
    format_deviation,
    format_interval,
    format_mean,
    format_relative,
)
from mmpt_fairseq.scoring import normalise_text

BASELINE = "scratch"
LONGER = "scratch, twice as long"
TRAINING = ("train", "valid")
WILDCARD = "\0"  # replaces a word; occurs in no text


def results(demo: Demo, recognisers: dict[str, Recogniser], seeds: Sequence[int]) -> dict:
    """Scores of every recogniser and translation: mean over seeds, interval, and each seed."""
    test = Manifest(demo.corpus / "asr" / "test.tsv")
    rows = {"all": list(range(len(test))), "novel": novel(test, _seen(demo, recognisers))}
    found = {
        "wer": _rates(demo, recognisers, seeds, "word", rows["all"]),
        "cer": _rates(demo, recognisers, seeds, "char", rows["all"]),
    }
    if rows["novel"]:
        found["wer_of_novel"] = _rates(demo, recognisers, seeds, "word", rows["novel"])
    translations = {
        r.midtrained: [
            count_decoded(
                Manifest(demo.corpus / f"st_en-{r.midtraining}" / "test.tsv"),
                _output(demo.folder(seed, r.midtrained)),
                "bleu",
            ).value
            for seed in seeds
        ]
        for r in recognisers.values()
        if r.midtrained
    }
    start = recognisers["midtrained"]
    folders = {
        "pretrained": demo.folder(seeds[0], start.pretrained),
        "midtrained": demo.folder(seeds[0], start.midtrained),
        "asr": demo.folder(seeds[0], "asr_midtrained"),
    }
    return {
        **found,
        "bleu": translations,
        "rows": {name: len(chosen) for name, chosen in rows.items()},
        "seconds": {
            str(done.parent.relative_to(demo.out)): round(seconds(done.parent), 1)
            for done in sorted(demo.out.rglob("done.json"))
        },
        "checkpoints": {name: str(path / "checkpoint_best.pt") for name, path in folders.items()},
        "language": demo.language,
        "seeds": list(seeds),
        "sizes": vars(demo.sizes),
        "overrides": list(demo.overrides),
    }


def novel(test: Manifest, seen: Iterable[str]) -> list[int]:
    """Test rows whose sentence differs from every training sentence by more than one word.

    With a small vocabulary most test sentences differ from a training sentence in a single word, so
    that their scores partly measure memorisation.
    """
    known = {pattern for text in seen for pattern in _patterns(text)}
    texts = [normalise_text(text) for text in test.column("tgt_text")]
    return [row for row, text in enumerate(texts) if known.isdisjoint(_patterns(text))]


def _patterns(text: str) -> set[tuple[str, ...]]:
    """The sentence with a wildcard in place of a word or inserted.

    Two sentences share a pattern if and only if they differ by at most one word.
    """
    words = text.split()
    replaced = {(*words[:i], WILDCARD, *words[i + 1 :]) for i in range(len(words))}
    return replaced | {(*words[:i], WILDCARD, *words[i:]) for i in range(len(words) + 1)}


def _seen(demo: Demo, recognisers: dict[str, Recogniser]) -> list[str]:
    """English sentences of all clips whose texts, in any language, train stages 2 and 3."""
    languages = {r.midtraining for r in recognisers.values() if r.midtraining}
    folders = ["asr", *(f"st_en-{language}" for language in sorted(languages))]
    paths = [demo.corpus / folder / f"{split}.tsv" for folder in folders for split in TRAINING]
    return [normalise_text(text) for path in paths for text in Manifest(path).column("src_text")]


def _rates(
    demo: Demo,
    recognisers: dict[str, Recogniser],
    seeds: Sequence[int],
    unit: str,
    rows: Sequence[int],
) -> dict[str, dict]:
    """Error rates of every recogniser: mean, interval, each seed, differences from baselines."""
    test = Manifest(demo.corpus / "asr" / "test.tsv")
    counts = {
        name: [
            count_decoded(test, _output(demo.folder(seed, f"asr_{name}")), unit, rows)
            for seed in seeds
        ]
        for name in recognisers
    }
    return {
        name: {
            "mean": _as_list(mean_interval(runs)),
            "seeds": [run.value for run in runs],
            **{
                key: _as_list(relative_difference(runs, counts[baseline]))
                for key, baseline in (("against_scratch", BASELINE), ("against_longer", LONGER))
                if baseline in counts and name not in (BASELINE, baseline)
            },
        }
        for name, runs in counts.items()
    }


def _output(folder: Path) -> Path:
    return folder / "decoded" / "generate-test.txt"


def _as_list(interval: Interval) -> list[float]:
    return list(astuple(interval))


def table(found: dict) -> str:
    """Format the results as text."""
    several = len(found["seeds"]) > 1
    spread_of = " ± deviation over seeds" if several else ""
    lines = [f"{'recogniser':<30} WER % [95 % interval]{spread_of}   CER %   WER against scratch"]
    lines += _lines(found, "wer")
    if "wer_of_novel" in found:
        lines.append(
            f"the {found['rows']['novel']} of {found['rows']['all']} test sentences that differ "
            "from every training sentence by more than one word:"
        )
        lines += _lines(found, "wer_of_novel")
    lines += [f"{name}: BLEU {format_mean(values)}" for name, values in found["bleu"].items()]
    return "\n".join(lines)


def _lines(found: dict, metric: str) -> list[str]:
    lines = []
    for name, rate in found[metric].items():
        cer = f"{mean(found['cer'][name]['seeds']):7.1f}" if metric == "wer" else " " * 7
        against = rate.get("against_scratch")
        wer = format_interval(Interval(*rate["mean"])) + format_deviation(rate["seeds"])
        gain = format_relative(Interval(*against)) if against else ""
        lines.append(f"{name:<30} {wer}{cer}   {gain}".rstrip())
    return lines
