"""Find every training and decode under given folders, and the run each training started from.

A training is a folder that ``fairseq-hydra-train`` used as ``checkpoint.save_dir``; a decode is one
that ``fairseq-generate`` used as ``--results-path``. It does not matter how they were launched;
``started.json``, written by the example scripts, adds the command and the duration.
"""

import contextlib
import itertools
import os
import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from fairseq.tasks import TASK_REGISTRY

from manifests.errors import InputError
from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.decoding.record import decoding_models
from mmpt_fairseq.fingerprint import fingerprint
from mmpt_fairseq.report.logs import parse_config, read_log
from mmpt_fairseq.report.runs import (
    CHECKPOINTS,
    RECOGNITION,
    TRANSLATION,
    Decode,
    Run,
    kind_of,
    read_json,
    relocate,
)

# Levels of folders searched below a link, which may lead to a large corpus; enough for one to the
# folder of a demo: seed1/asr_scratch/decoded.
LINKED_DEPTH, ANY_DEPTH = 3, 1 << 20
GROUPS = ("common_eval", "task", "generation")  # in a decode's JSON record


def find(folders: Sequence[Path]) -> tuple[list[Run], list[Decode]]:
    """Find all trainings and decodes under ``folders``, sorted by path.

    Raises:
        InputError: a folder does not exist or contains neither.
    """
    folders = [Path(os.path.abspath(folder)) for folder in folders]
    root = common_folder(folders)
    runs: dict[Path, Run] = {}
    outputs: dict[Path, str] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}; give the folder of a training run")
        before = len(runs) + len(outputs)
        for path in _folders(folder):
            name = os.path.relpath(path, root) if path != root else path.name
            run = _read_run(path, name)
            if run is not None:
                runs[path] = run
            for output in sorted(path.glob("generate-*.txt")):
                if not _is_empty(output):  # empty if decoding failed at startup
                    outputs[output] = name
        if len(runs) + len(outputs) == before:
            raise InputError(
                f"there is no training and no decode under {folder}: no hydra_train.log, "
                "no checkpoint_last.pt, no generate-<split>.txt; give a folder that "
                "fairseq-hydra-train used as checkpoint.save_dir"
            )
    external: dict[Path, Run] = {}
    decodes = [read_decode(output, outputs[output], runs, external) for output in sorted(outputs)]
    _connect(runs, external)
    _resolve_kinds([*runs.values()], decodes)
    return [runs[path] for path in sorted(runs)], decodes


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.stat().st_size


def common_folder(folders: Sequence[Path]) -> Path:
    """The deepest common folder; for a single folder, itself."""
    return Path(os.path.commonpath([os.path.abspath(f) for f in folders]))


def _folders(folder: Path) -> list[Path]:
    """``folder`` and all folders in it, each once, also where they are linked from elsewhere."""
    found, visited, root = [], set(), folder.resolve()

    def visit(path: Path, depth: int) -> None:
        if depth < 0 or path.resolve() in visited:
            return
        visited.add(path.resolve())
        if path.name != "tensorboard":
            found.append(path)
        with contextlib.suppress(OSError):
            for inner in filter(Path.is_dir, path.iterdir()):
                if not inner.is_symlink():
                    visit(inner, depth - 1)
                # Not to where ``folder`` is, nor to a folder that has a name in it.
                elif not (
                    root.is_relative_to(target := inner.resolve()) or target.is_relative_to(root)
                ):
                    visit(inner, min(depth, LINKED_DEPTH))

    visit(folder, ANY_DEPTH)
    return sorted(found)


def _read_run(folder: Path, name: str) -> Run | None:
    log = read_log(folder)
    checkpoints = [folder / c for c in CHECKPOINTS if (folder / c).is_file()]
    if log is None and not checkpoints:
        return None
    run = Run(folder, name, (log and log.cfg) or {}, log)
    if not run.cfg:
        run.cfg = _config_of(checkpoints, run.notes)
    if log is None:
        run.notes.append(
            "no hydra_train.log next to the checkpoints, so there are no curves; set "
            "hydra.run.dir=${checkpoint.save_dir} to have Hydra write it there"
        )
    if log is not None and log.failed_restart:
        run.notes.append(
            f"a later start in this folder failed before training: {log.failed_restart}"
        )
    if log is not None and log.diverged is not None:
        run.notes.append(
            f"its loss was infinite or not a number, first at update {log.diverged}; such values "
            "are not drawn"
        )
    no_progress = log is not None and not log.metrics() and not log.validation()
    if no_progress and not checkpoints:
        run.notes.append(
            "no update so far: it failed at startup (see the last lines of its log), has just "
            "started, or has not yet reached common.log_interval updates"
        )
    elif no_progress:
        run.notes.append(
            f"{log.path} has no progress line; set common.log_format=json and a small "
            "common.log_interval"
        )
    elif not checkpoints:
        reason = (
            "its checkpoints were deleted or moved" if log.finished else "no checkpoint saved yet"
        )
        run.notes.append(f"{reason}, so there are no figures of its model")
    task = run.get("task._name")
    if task and task not in TASK_REGISTRY:
        run.notes.append(
            f"its task {task} is not registered, so its clips are not shown; pass --user-dir with "
            f"the package that registers it (the training's common.user_dir was "
            f"{run.get('common.user_dir')})"
        )
    run.start_path = run.get("model.init_encoder_from")
    run.kind = kind_of(run)
    return run


def _config_of(checkpoints: Sequence[Path], notes: list[str]) -> dict:
    """The config in the first readable checkpoint; reasons for unreadable ones go to ``notes``."""
    for path in checkpoints:
        try:
            return to_dict(load_checkpoint(path).get("cfg"))
        except InputError as error:
            notes.append(str(error))
    return {}


def to_dict(cfg: object) -> dict:
    """Convert a fairseq config to nested dicts, with enum members as strings.

    Legacy models and tasks keep their whole command line in one Namespace.
    """
    from omegaconf import DictConfig, OmegaConf

    if isinstance(cfg, DictConfig):
        cfg = OmegaConf.to_container(cfg, resolve=False, enum_to_str=True)
    groups = cfg if isinstance(cfg, dict) else {}
    return {k: dict(vars(v)) if isinstance(v, Namespace) else v for k, v in groups.items()}


def read_decode(
    output: Path, name: str, runs: dict[Path, Run], external: dict[Path, Run]
) -> Decode:
    """Metadata of a decode; its text is read when it is scored.

    Args:
        external: runs known by a checkpoint only; the decode's may be added.
    """
    split = output.stem.removeprefix("generate-")
    cfg = read_json(output.with_suffix(".json")) or _printed_config(output)
    # A damaged record may contain anything.
    cfg |= {name: {} for name in GROUPS if not isinstance(cfg.get(name), dict)}
    evaluation, task = cfg["common_eval"], cfg["task"]
    recorded = str(evaluation.get("results_path") or output.parent)
    paths = str(evaluation.get("path") or output.parent / "unknown.pt").split(os.pathsep)
    checkpoint = relocate(paths[0], recorded, output.parent)
    run = _training_of(checkpoint, output, runs, external) if len(paths) == 1 else None
    if task.get("data"):
        data = relocate(str(task["data"]), recorded, output.parent)
    else:  # an older decode in its training's folder; scoring checks that the manifest matches
        data = run.locate(str(run.get("task.data", ""))) if run else output.parent
    manifest = data / f"{split}.tsv"
    decode = Decode(output, name, cfg, split, manifest, checkpoint, run, len(paths))
    models = decoding_models(checkpoint, cfg["generation"])
    before = cfg.get("fingerprint")
    if before and all(path.is_file() for path in models) and fingerprint(models) != before:
        names = " or ".join(path.name for path in models)
        decode.notes.append(
            f"{names} has changed since {output.name} was decoded with it; decode again"
        )
    return decode


def _printed_config(output: Path) -> dict:
    """The config that fairseq logs first, from the example scripts' log or from its output."""
    for path in (output.parent / "log.txt", output):
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in itertools.islice(file, 50):
                message = re.search(r"fairseq_cli\.generate\W+(\{'_name'.*)$", line)
                if message:
                    return parse_config(message[1]) or {}
    return {}


def _connect(runs: dict[Path, Run], external: dict[Path, Run]) -> None:
    """Link every run to the one it started from, reading external ones from their checkpoints."""
    for run in [*runs.values(), *external.values()]:
        while run.start_path and run.start is None:
            path = run.locate(run.start_path)
            folder = _same_folder(path, runs)
            if folder == run.folder:
                break  # its own checkpoint: the real start is not recorded
            if folder is not None:
                run.start = runs[folder]
                break
            run.start = _external(path, external)
            run = run.start  # its own start may be external too


def _same_folder(path: Path, runs: dict[Path, Run]) -> Path | None:
    """The folder of the run that contains a checkpoint, following symlinks."""
    wanted = os.path.realpath(path.parent)
    return next((folder for folder in runs if os.path.realpath(folder) == wanted), None)


def _external(path: Path, known: dict[Path, Run]) -> Run:
    """A run known by its checkpoint only, read once."""
    if path in known:
        return known[path]
    run = known[path] = Run(path.parent, str(path.parent), {})
    run.cfg = _config_of([path], run.notes)
    run.start_path = run.get("model.init_encoder_from")
    run.kind = kind_of(run) if run.cfg else "unknown start"
    return run


def _resolve_kinds(runs: list[Run], decodes: list[Decode]) -> None:
    """Set kinds that manifests leave open: from a decode's metric, else from the run's successors.

    What another run started from is taken for translation, anything else for recognition.
    """
    for decode in decodes:
        if decode.run and not decode.run.kind:
            decode.run.kind = _kind_by_metric(decode.output)
    for run in runs:
        for earlier in run.lineage:
            earlier.kind = earlier.kind or TRANSLATION
    for run in runs:
        run.kind = run.kind or RECOGNITION


def _kind_by_metric(output: Path) -> str:
    """Kind from the score in the last line; sacreBLEU and WER are only there if asked for."""
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - 1000))
        last = file.read().decode(errors="replace").strip().split("\n")[-1]
    if " BLEU = " in last:
        return TRANSLATION
    return RECOGNITION if re.search(r"\bWER\b", last) else ""


def _training_of(
    checkpoint: Path, output: Path, runs: dict[Path, Run], external: dict[Path, Run]
) -> Run | None:
    """The training of a decode's checkpoint: by path, else the run that contains the decode."""
    folder = _same_folder(checkpoint, runs)
    if folder is None and not checkpoint.is_file():
        folder = next((parent for parent in output.parents if parent in runs), None)
    if folder is not None:
        return runs[folder]
    if not checkpoint.is_file():
        return None
    return _external(checkpoint, external)
