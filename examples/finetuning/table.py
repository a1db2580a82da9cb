"""The comparison's results, read from its folders, as tables in Markdown."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.report.intervals import Counts, mean_interval, relative_difference
from mmpt_fairseq.report.summary import bracketed, counts_of, relative

if TYPE_CHECKING:
    from examples.finetuning.compare import Comparison, System


class Tables:
    """Tables of what a comparison has trained and decoded with these seeds."""

    def __init__(
        self, comparison: "Comparison", systems: dict[str, "System"], seeds: Sequence[int]
    ) -> None:
        self.comparison, self.systems, self.seeds = comparison, systems, seeds
        self.test_set = Manifest(comparison.origin.asr / f"{comparison.origin.test}.tsv")

    def __str__(self) -> str:
        """All of them, for the systems that were asked for."""
        parts = [self.test(), self.valid(), self.averages()]
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

    def test(self) -> list[str]:
        """Error rates on the test split with 95 % intervals, the origin's own too."""
        lines = ["| system | decoding | WER % | CER % |", "|---|---|---|---|"]
        for name, system in self.systems.items():
            for search in system.searches:
                rates = self._rates(self._decodes(name, search))
                lines.append(f"| {name} | {search} | {rates} |")
        for name, folder in self.comparison.origin.curve.items():
            folders = [folder(seed) for seed in self.seeds]
            there = all(self._output(folder).is_file() for folder in folders)
            rates = self._rates(folders) if there else "not run |"
            lines.append(f"| 100 %, {name} (as there) | ctc | {rates} |")
        return lines

    def valid(self) -> list[str]:
        """Error rates on the validation split, by which the weight of CTC is chosen."""
        found = {
            name: [
                json.loads((self.comparison.folder(seed, name) / "valid.json").read_text())
                for seed in self.seeds
            ]
            for name, system in self.systems.items()
            if "joint" in system.searches
        }
        if not found:
            return []
        ways, metric = list(next(iter(found.values()))[0]), self.comparison.origin.metric
        lines = [
            f"| {metric.upper()} % on valid | {' | '.join(ways)} |",
            f"|---|{'---|' * len(ways)}",
        ]
        for name, seeds in found.items():
            cells = [f"{mean(rates[way][metric] for rates in seeds):.1f}" for way in ways]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return lines

    def averages(self) -> list[str]:
        """The mean of the best checkpoints beside the best one."""
        lines = []
        for name, system in self.systems.items():
            if system.averaged:
                best, average = (self._decodes(name, way) for way in ("ctc", "ctc_averaged"))
                found = relative_difference(self._counts(average), self._counts(best))
                lines.append(f"| {name} | {self._rates(average)} | {relative(found)} |")
        if not lines:
            return []
        return [
            "| mean of the best checkpoints | WER % | CER % | WER against the best one |",
            "|---|---|---|---|",
            *lines,
        ]

    def _decodes(self, name: str, way: str) -> list[Path]:
        return [self.comparison.folder(seed, name) / way for seed in self.seeds]

    def _counts(self, folders: list[Path], unit: str = "word") -> list[Counts]:
        return [counts_of(self.test_set, self._output(folder), unit) for folder in folders]

    def _output(self, folder: Path) -> Path:
        return folder / f"generate-{self.comparison.origin.test}.txt"

    def _rates(self, folders: list[Path]) -> str:
        wer = mean_interval(self._counts(folders))
        cer = mean_interval(self._counts(folders, "char"))
        return f"{bracketed(wer)} | {bracketed(cer)}"
