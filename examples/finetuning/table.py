"""Read the comparison's results from its folders and format them as Markdown tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.report.intervals import Counts, mean_interval, relative_difference
from mmpt_fairseq.report.summary import count_decoded, format_interval, format_relative

if TYPE_CHECKING:
    from examples.finetuning.compare import Comparison, System


class Tables:
    """Tables of the systems that a comparison has trained and decoded with the given seeds."""

    def __init__(
        self, comparison: "Comparison", systems: dict[str, "System"], seeds: Sequence[int]
    ) -> None:
        self.comparison, self.systems, self.seeds = comparison, systems, seeds
        self.test_set = Manifest(comparison.origin.asr / f"{comparison.origin.test}.tsv")

    def __str__(self) -> str:
        """All tables, for the selected systems."""
        parts = [self.test(), self.valid(), self.averages()]
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

    def test(self) -> list[str]:
        """Error rates on the test split with 95 % intervals, including the origin's own systems."""
        lines = ["| system | decoding | WER % | CER % |", "|---|---|---|---|"]
        for name, system in self.systems.items():
            for search in system.searches:
                rates = self._rates(self._decodes(name, search))
                lines.append(f"| {name} | {search} | {rates} |")
        for name, folder in self.comparison.origin.curve.items():
            folders = [folder(seed) for seed in self.seeds]
            complete = all(self._output(folder).is_file() for folder in folders)
            rates = self._rates(folders) if complete else "not run |"
            lines.append(f"| 100 %, {name} (existing run) | ctc | {rates} |")
        return lines

    def valid(self) -> list[str]:
        """Error rates on the validation split, by which the CTC weight is selected."""
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
        searches, metric = list(next(iter(found.values()))[0]), self.comparison.origin.metric
        lines = [
            f"| {metric.upper()} % on valid | {' | '.join(searches)} |",
            f"|---|{'---|' * len(searches)}",
        ]
        for name, seeds in found.items():
            cells = [f"{mean(rates[search][metric] for rates in seeds):.1f}" for search in searches]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return lines

    def averages(self) -> list[str]:
        """The average of the best checkpoints compared with the best one."""
        lines = []
        for name, system in self.systems.items():
            if system.averaged:
                best, average = (self._decodes(name, search) for search in ("ctc", "ctc_averaged"))
                found = relative_difference(self._counts(average), self._counts(best))
                lines.append(f"| {name} | {self._rates(average)} | {format_relative(found)} |")
        if not lines:
            return []
        return [
            "| average of the best checkpoints | WER % | CER % | WER relative to the best one |",
            "|---|---|---|---|",
            *lines,
        ]

    def _decodes(self, name: str, search: str) -> list[Path]:
        return [self.comparison.folder(seed, name) / search for seed in self.seeds]

    def _counts(self, folders: list[Path], unit: str = "word") -> list[Counts]:
        return [count_decoded(self.test_set, self._output(folder), unit) for folder in folders]

    def _output(self, folder: Path) -> Path:
        return folder / f"generate-{self.comparison.origin.test}.txt"

    def _rates(self, folders: list[Path]) -> str:
        wer = mean_interval(self._counts(folders))
        cer = mean_interval(self._counts(folders, "char"))
        return f"{format_interval(wer)} | {format_interval(cer)}"
