"""The report's content, computed once for HTML and Markdown."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import ClassVar, TypeVar

from tqdm import tqdm

from manifests.errors import InputError
from mmpt_fairseq.extensions import why_no_reconstruction
from mmpt_fairseq.report import configs
from mmpt_fairseq.report.clips import ClipGroup, decoded_clips, worst_clips
from mmpt_fairseq.report.curves import STAGES, StageCurves, stage_curves, system_of
from mmpt_fairseq.report.discovery import find
from mmpt_fairseq.report.figures import SvgFigure, reconstruction
from mmpt_fairseq.report.probes import attempt
from mmpt_fairseq.report.reconstruction import reconstruct, validation_manifest
from mmpt_fairseq.report.results import Table, tables
from mmpt_fairseq.report.runs import PRETRAINING, Decode, Run, read_json

Result = TypeVar("Result")
NAMED_IN_TITLE = 3  # maximum number of RUNs


@dataclass
class MaskedExample:
    """A pre-trained model's reconstruction of a masked clip, or why it cannot be shown."""

    run: Run
    name: str = ""
    figures: list[SvgFigure] = field(default_factory=list)
    reason_missing: str = ""


@dataclass
class Cost:
    """Time and memory of a run; None for what its log does not contain.

    Attributes:
        seconds: total over all attempts.
        updates_per_second, tokens_per_second: medians of the log's progress lines.
        clips_per_update: mean batch size.
        memory: peak resident memory in GB (1e9 bytes).
    """

    run: Run
    seconds: float | None
    updates_per_second: float | None
    tokens_per_second: float | None
    clips_per_update: float | None
    memory: float | None

    @property
    def clips_seen(self) -> int | None:
        """Total number of clips trained on, counting repetitions."""
        return self.clips_per_update and round(self.clips_per_update * self.run.updates)


@dataclass
class Setup:
    """How to reproduce a run; ``known`` says whether ``command`` is the original one.

    ``recipe`` is saved as ``file``, without its suffix.
    """

    run: Run
    command: str
    known: bool
    recipe: str
    file: str
    config: str


@dataclass
class Page:
    """The report, with its sections in display order."""

    template: ClassVar[str] = "report"
    title: str
    created: str
    runs: list[Run]
    decodes: list[Decode]
    tables: list[Table]
    notes: list[str]
    curves: list[StageCurves]
    masked: list[MaskedExample]
    decoded: list[ClipGroup]
    worst: list[ClipGroup]
    costs: list[Cost]
    decode_seconds: dict[str, float]
    setups: list[Setup]
    versions: dict[str, str]

    @property
    def seconds(self) -> float:
        """Total time of trainings and decodes, as far as known."""
        return sum(c.seconds or 0 for c in self.costs) + sum(self.decode_seconds.values())


def collect(folders: Sequence[Path], files: str) -> Page:
    """Read, score and plot everything under ``folders``, with a progress bar on a terminal.

    Args:
        folders: the RUNs.
        files: folder of the page's files, which rebuilt commands pass as ``--config-dir``.

    Raises:
        InputError: nothing was found, or one table would mix test sets.
    """
    steps = {
        find: "finding runs",
        tables: "scoring",
        stage_curves: "plotting curves",
        masked_clips: "reconstructing masked clips",
        decoded_clips: "aligning decoded clips",
        worst_clips: "finding worst utterances",
    }
    with tqdm(total=len(steps), unit="step", disable=None) as bar:

        def step(function: Callable[..., Result], *arguments: object) -> Result:
            bar.set_description(steps[function])
            result = function(*arguments)
            bar.update()
            return result

        runs, decodes = step(find, folders)
        excluded = [run for run in runs if run.failed_to_start]
        if len(excluded) < len(runs):
            runs = [run for run in runs if not run.failed_to_start]
        else:
            excluded = []
        order = list(STAGES)
        runs.sort(key=lambda run: order.index(run.kind) if run.kind in order else len(order))
        found, notes = step(tables, decodes)
        return Page(
            title=_title([Path(folder).resolve() for folder in folders]),
            created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
            runs=runs,
            decodes=decodes,
            tables=found,
            notes=[
                *notes,
                *(f"{x.name}: {note}" for x in (*runs, *decodes) for note in x.notes),
                *(
                    f"run {run.name} failed before training and is omitted: {run.log.last_message}"
                    for run in excluded
                ),
            ],
            curves=step(stage_curves, runs),
            masked=step(masked_clips, runs),
            decoded=step(decoded_clips, found),
            worst=step(worst_clips, found),
            costs=[cost(run) for run in runs],
            decode_seconds=_decode_seconds(decodes),
            setups=setups(runs, files),
            versions=configs.versions(),
        )


def _title(folders: list[Path]) -> str:
    if len(folders) <= NAMED_IN_TITLE:
        return " and ".join(folder.name for folder in folders)
    return f"{len(folders)} folders under {Path(os.path.commonpath(folders)).name or '/'}"


def masked_clips(runs: Sequence[Run]) -> list[MaskedExample]:
    """A masked clip for every pre-training run (the first seed if there are several)."""
    shown: dict[str, MaskedExample] = {}
    for run in runs:
        if run.kind == PRETRAINING and system_of(run) not in shown:
            shown[system_of(run)] = _masked_clip(run)
    return list(shown.values())


def _masked_clip(run: Run) -> MaskedExample:
    criterion = str(run.get("criterion._name", ""))
    if reason_missing := why_no_reconstruction(criterion):
        return MaskedExample(run, reason_missing=reason_missing)
    found, reason = attempt(_draw_masked, run)
    return MaskedExample(run, *found) if found else MaskedExample(run, reason_missing=reason)


def _draw_masked(run: Run) -> tuple[str, list[SvgFigure]]:
    if run.checkpoint is None:
        raise InputError("the run has not saved a checkpoint")
    splits = str(run.get("dataset.valid_subset", "valid")).split(",")
    manifest = validation_manifest(run.locate(str(run.get("task.data", ""))), splits)
    clip = reconstruct(run.checkpoint, manifest)
    return clip.name, reconstruction(clip, f"{clip.name} by {run.name}")


def cost(run: Run) -> Cost:
    """Time and memory from the run's log."""

    def values(metric: str) -> list[float]:
        return list(run.log.curve(metric).values()) if run.log else []

    memory, batches = values("peak_rss_gb"), values("bsz")
    return Cost(
        run,
        run.seconds,
        median(values("ups")) if values("ups") else None,
        median(values("wps")) if values("wps") else None,
        sum(batches) / len(batches) if batches else None,
        max(memory) if memory else None,
    )


def setups(runs: Sequence[Run], folder: str) -> list[Setup]:
    """Command and config of each run; a rebuilt command reads the recipe in ``folder``."""
    found = []
    for run, file in zip(runs, configs.file_names(run.name for run in runs), strict=True):
        known = configs.known_command(run)
        found.append(
            Setup(
                run,
                known or configs.recipe_command(folder, file),
                known is not None,
                configs.recipe(run),
                file,
                configs.to_yaml({k: v for k, v in run.cfg.items() if k != "job_logging_cfg"}),
            )
        )
    return found


def _decode_seconds(decodes: Sequence[Decode]) -> dict[str, float]:
    """Seconds of each decode that the example scripts timed (``done.json``)."""
    clocked = {d.name: read_json(d.folder / "done.json").get("seconds") for d in decodes}
    return {name: seconds for name, seconds in clocked.items() if seconds}


def state_of(run: Run) -> str:
    """``done``, ``running, update 300 of 600`` or ``stopped at update 300 of 600``."""
    place = f"update {run.updates} of {run.max_update}" if run.max_update else str(run.updates)
    return {
        "done": "done",
        "running": f"running, {place}",
        "stopped": f"stopped at {place}",
    }.get(run.state, "no log")
