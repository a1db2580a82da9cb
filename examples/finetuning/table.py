"""The comparison's results, read from its folders, as tables in Markdown."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.report.intervals import Counts, count, mean_interval, relative_difference
from mmpt_fairseq.report.scores import read_hypotheses

DEMOS = {"100 %, scratch": "asr_scratch", "100 %, midtrained": "asr_midtrained"}


def tables(comparison, systems: dict, seeds: Sequence[int]) -> str:
    """All of them, for the systems that were asked for."""
    test = comparison.demo.corpus / "asr" / "test.tsv"

    def counts(folders: list[Path], unit: str) -> list[Counts]:
        rows = Manifest(test)
        references = list(rows.column("tgt_text"))
        outputs = [folder / "generate-test.txt" for folder in folders]
        return [count(references, read_hypotheses(o, len(rows)), unit) for o in outputs]

    def of(name: str, way: str) -> list[Path]:
        return [comparison.folder(seed, name) / way for seed in seeds]

    def demos(folder: str) -> list[Path]:
        return [comparison.demo.folder(seed, folder) / "decoded" for seed in seeds]

    ways = [("CTC", "ctc"), ("attention", "attention"), ("joint", "joint")]
    lines = ["| system | decoding | WER % | CER % |", "|---|---|---|---|"]
    for name, system in systems.items():
        for label, way in ways if system.searched else ways[:1]:
            folders = of(name, way)
            lines.append(_row([name, label], counts(folders, "word"), counts(folders, "char")))
    for name, folder in DEMOS.items():
        folders = demos(folder)
        lines.append(
            _row([f"{name} (the demo's)", "CTC"], counts(folders, "word"), counts(folders, "char"))
        )
    searched = [name for name, system in systems.items() if system.searched]
    if searched:
        lines += ["", *_searches(comparison, searched, seeds)]
    averaged = [name for name, system in systems.items() if system.averaged]
    if averaged:
        lines += [
            "",
            "| system | mean of the best checkpoints against the best: WER |",
            "|---|---|",
        ]
    for name in averaged:
        best, averages = (counts(of(name, way), "word") for way in ("ctc", "ctc_averaged"))
        found = relative_difference(averages, best)
        lines.append(f"| {name} | {found.value:+.1f} % [{found.low:+.1f}, {found.high:+.1f}] |")
    return "\n".join(lines)


def _row(cells: list[str], words: list[Counts], characters: list[Counts]) -> str:
    """Error rates with the 95 % interval of the first."""
    wer, cer = mean_interval(words), mean_interval(characters)
    cells = [*cells, f"{wer.value:.1f} [{wer.low:.1f}, {wer.high:.1f}]", f"{cer.value:.1f}"]
    return f"| {' | '.join(cells)} |"


def _searches(comparison, names: list[str], seeds: Sequence[int]) -> list[str]:
    """WER on the validation split, on which the weight of CTC is chosen."""
    found = {
        name: [
            json.loads((comparison.folder(seed, name) / "valid.json").read_text())["wer"]
            for seed in seeds
        ]
        for name in names
    }
    ways = list(found[names[0]][0])
    lines = [
        f"| WER % on valid | {' | '.join(way.replace('_', ' ') for way in ways)} |",
        f"|---|{'---|' * len(ways)}",
    ]
    for name, wers in found.items():
        cells = [f"{mean(wer[way] for wer in wers):.1f}" for way in ways]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
