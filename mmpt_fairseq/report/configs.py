"""Reproducing a run: its non-default config values, its command, and software versions."""

import itertools
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path

import yaml

import mmpt_fairseq
from mmpt_fairseq.report.runs import Run, read_json

# Hydra settings that a training's YAML needs in addition to fairseq's keys, as in the examples.
HYDRA = {
    "job": {"chdir": False},
    "run": {"dir": "${checkpoint.save_dir}"},
    "output_subdir": None,
}
_MISSING = object()  # sentinel for an unknown default
PACKAGES = ("torch", "fairseq-fixed", "numpy", "jiwer", "sacrebleu", "matplotlib")


def deviations(cfg: dict) -> dict[str, dict]:
    """Config values that differ from their dataclasses' defaults, by group.

    A group selected by name (task, model ...) keeps its ``_name``; an unknown group is kept whole.
    Interpolations of another group's values are omitted.
    """
    kept = {}
    for group, values in cfg.items():
        if not isinstance(values, dict) or group == "job_logging_cfg":
            continue
        defaults = _defaults(group, values.get("_name"))
        found = {
            key: value
            for key, value in values.items()
            if (key == "_name" and value)
            or (key != "_name" and not _is_default(value, defaults.get(key, _MISSING), cfg, key))
        }
        if found:
            kept[group] = found
    return kept


def recipe(run: Run) -> str:
    """YAML config with which ``fairseq-hydra-train`` reproduces the run."""
    kept = deviations(run.cfg)
    kept.setdefault("checkpoint", {})["save_dir"] = str(run.get("checkpoint.save_dir", "???"))
    return to_yaml({"hydra": HYDRA, **kept})


def to_yaml(config: dict) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)


def recipe_command(folder: str, name: str) -> str:
    """The command that reads :func:`recipe` from ``name``.yaml in a folder."""
    return shlex.join(["fairseq-hydra-train", "--config-dir", folder, "--config-name", name])


def known_command(run: Run) -> str | None:
    """The run's original command from ``started.json`` or its log, or None."""
    identity = read_json(run.folder / "started.json").get("identity")
    parts = identity.get("command") if isinstance(identity, dict) else None
    if isinstance(parts, list):
        return shlex.join(map(str, parts))
    return run.log.command if run.log else None


def file_names(names: Iterable[str]) -> list[str]:
    """Runs' names as different file names without suffix."""
    found: dict[str, None] = {}
    for name in names:
        plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
        numbered = itertools.chain([plain], (f"{plain}-{n}" for n in itertools.count(2)))
        found[next(file for file in numbered if file not in found)] = None
    return list(found)


def versions() -> dict[str, str]:
    """Versions of the environment that writes the report."""
    return {
        "Python": platform.python_version(),
        "mmpt_fairseq": mmpt_fairseq.__version__ + _commit(),
        **{name: _version(name) for name in PACKAGES},
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
    }


def _is_default(value: object, default: object, cfg: dict, key: str) -> bool:
    if isinstance(value, str) and value.startswith("${"):
        return True
    if isinstance(default, str) and default.startswith("${"):
        group, _, name = default.strip("${}").partition(".")
        default = (cfg.get(group) or {}).get(name, _MISSING)
    return value == default or str(value) == str(default)


def _defaults(group: str, name: str | None) -> dict[str, object]:
    """Default values of a config group; ``name`` selects the member of a registry group."""
    cls = _dataclass_of(group, name)
    if cls is None:
        return {}
    defaults = {}
    for item in fields(cls):
        value = item.default
        if callable(item.default_factory):
            value = item.default_factory()
        defaults[item.name] = getattr(value, "value", value)  # enum members as values
    return defaults


def _dataclass_of(group: str, name: str | None) -> type | None:
    from fairseq.dataclass.configs import FairseqConfig
    from fairseq.models import MODEL_DATACLASS_REGISTRY
    from fairseq.registry import REGISTRIES
    from fairseq.tasks import TASK_DATACLASS_REGISTRY

    named = {"task": TASK_DATACLASS_REGISTRY, "model": MODEL_DATACLASS_REGISTRY}
    named |= {key: registry["dataclass_registry"] for key, registry in REGISTRIES.items()}
    if group in named:
        return named[group].get(name)
    value = next((f for f in fields(FairseqConfig) if f.name == group), None)
    found = value.type if value is not None else None
    return found if is_dataclass(found) else None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The git commit, if the package is in a checkout; else empty."""
    folder = Path(mmpt_fairseq.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return ""
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f" (commit {described.stdout.strip()})"


def processor() -> str:
    """The processor's model name, or its architecture if the name is unknown."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
