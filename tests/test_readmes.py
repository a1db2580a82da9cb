"""What the READMEs tell to say on the command line: it composes, and names keys that exist."""

import re
import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from string import Template

import pytest
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.dataclass.initialize import hydra_init
from fairseq.models import MODEL_DATACLASS_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from fairseq.utils import import_user_module
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from examples import extending
from mmpt_fairseq.criterions.label_smoothed_cross_entropy import ManifestLabelSmoothedCrossEntropy
from tests.commands import ROOT
from tests.helpers import speech_batch, speech_model, speech_task

# A README -> the folder of the configs that it speaks of, and some of them.
CONFIGS = {
    "README.md": ("own", ["pretraining", "midtraining", "finetuning"]),
    "examples/OPTIONS.md": ("own", ["pretraining", "midtraining", "finetuning"]),
    "examples/demo/README.md": ("demo", ["pretraining", "midtraining", "finetuning"]),
    "examples/pretraining/README.md": ("pretraining", ["mae_clr_lrs3"]),
    "examples/midtraining/README.md": ("midtraining", ["mustc_en_it"]),
    "examples/finetuning/README.md": ("finetuning", ["librispeech_100h_free"]),
    "examples/superb/README.md": ("superb", ["keyword_spotting", "speaker_diarization"]),
}
REGISTRIES = {
    "task": TASK_DATACLASS_REGISTRY,
    "model": MODEL_DATACLASS_REGISTRY,
    "criterion": CRITERION_DATACLASS_REGISTRY,
}
OVERRIDE = re.compile(r"(\+{0,2})([a-z_]+)\.(\w+)=\S+")
TRAIN = "fairseq-hydra-train"
# Hydra's about how fairseq gives its schema.
pytestmark = pytest.mark.filterwarnings("ignore:\\s*'.*is validated against ConfigStore")


def pieces_in(text: str) -> list[list[re.Match]]:
    """Every ``group.key=value`` in each piece of a text's code, less whole blocks of code."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    code = [piece.split() for piece in re.findall(r"`([^`]+)`", text)]
    return [list(filter(None, map(OVERRIDE.fullmatch, words))) for words in code]


def overrides_in(text: str) -> list[re.Match]:
    """Those of all pieces."""
    return [override for piece in pieces_in(text) for override in piece]


def composed(folder: str, name: str, overrides: Sequence[str] = ()) -> dict:
    """The config that ``fairseq-hydra-train`` begins with."""
    import_user_module(Namespace(user_dir=str(ROOT / "mmpt_fairseq")))
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "examples" / folder / "config"), version_base="1.1"):
        hydra_init(name)  # as the command does: its own config is a schema of the same name
        cfg = compose(name, overrides=list(overrides))
    GlobalHydra.instance().clear()
    return OmegaConf.to_container(cfg)


def fault(override: re.Match, cfg: dict) -> str:
    """Why Hydra or fairseq would refuse; empty where they do not."""
    plus, group, key = override.groups()
    part = cfg.get(group, {})
    if group in REGISTRIES:
        known = {field.name for field in fields(REGISTRIES[group][part["_name"]])}
        if key not in {*known, "_name"}:
            return f"{group} has no {key}"
    if plus == "+" and key in part:
        return f"{group}.{key} is there and takes no +"
    return "" if plus or key in part else f"{group}.{key} is not there and takes a +"


@pytest.mark.parametrize("readme", CONFIGS)
def test_what_is_to_be_said_can_be_said(readme):
    folder, names = CONFIGS[readme]
    told = overrides_in((ROOT / readme).read_text(encoding="utf-8"))
    assert told
    configs = [composed(folder, name) for name in names]
    for override in told:
        faults = [fault(override, cfg) for cfg in configs]
        assert not all(faults), (override[0], faults)


@pytest.mark.parametrize(
    ("readme", "name"),
    [("examples/OPTIONS.md", "midtraining"), ("examples/midtraining/README.md", "mustc_en_it")],
)
def test_what_is_said_of_ctc_fits_the_model(readme, name):
    """Model and criterion of the config, with each piece of code that weighs CTC, give a loss."""
    pieces = pieces_in((ROOT / readme).read_text(encoding="utf-8"))
    told = [piece for piece in pieces if any(o[3] == "ctc_weight" for o in piece)]
    assert told
    for piece in told:
        cfg = composed(CONFIGS[readme][0], name, [override[0] for override in piece])
        settings = False, 0.1, 0, True, cfg["criterion"]["ctc_weight"]
        criterion = ManifestLabelSmoothedCrossEntropy(speech_task(), *settings)
        model = speech_model(ctc=cfg["model"].get("ctc", True))
        _, _, logs = criterion(model, speech_batch([40], [[4, 5]]))
        assert logs["ctc_loss"] > 0


def commands_in(text: str, program: str) -> Iterator[list[str]]:
    """Arguments of every line of a text that begins with a program, its variables filled in."""
    text = text.replace("\\\n", " ")
    variables = dict(re.findall(r'^(\w+)="(.*)"$', text, flags=re.MULTILINE))
    for line in re.findall(rf"^ *{program} (.*)$", text, flags=re.MULTILINE):
        yield shlex.split(Template(line).substitute(variables))


def readmes() -> list[str]:
    """Those that name a command that trains."""
    found = [ROOT / "README.md", *ROOT.glob("examples/**/README.md")]
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in found}
    return [name for name, text in texts.items() if any(commands_in(text, TRAIN))]


@pytest.mark.parametrize("readme", readmes())
def test_trainings_that_are_told_compose(readme):
    for arguments in commands_in((ROOT / readme).read_text(encoding="utf-8"), TRAIN):
        flags, overrides = arguments[:4], arguments[4:]
        assert flags[::2] == ["--config-dir", "--config-name"], arguments
        given = [override for override in overrides if override != "..."]
        folder, name = Path(flags[1]).parent.name, flags[3]
        for user_dir in (o.split("=")[1] for o in given if o.startswith("common.user_dir=")):
            assert ROOT / user_dir == Path(extending.__file__).parent  # imported, so registered
        cfg = composed(folder, name, [text for text in given if "._name=" in text])
        for override in filter(None, map(OVERRIDE.fullmatch, given)):
            assert not fault(override, cfg), (override[0], fault(override, cfg))
        composed(folder, name, given)


def test_faults_are_those_of_hydra():
    cfg = composed("demo", "pretraining")
    text = "`+model.normalise_targets=true`, `model.dropout=0.2` and `+checkpoint.patience=3`, but "
    text += "`model.normalise_targets=true` | `+model.dropout=0.2 checkpoint.patience=3` |"
    told = overrides_in(text)
    assert [bool(fault(override, cfg)) for override in told] == [True] * 3 + [False] * 3
    for override in told[:3]:
        with pytest.raises(HydraException):
            composed("demo", "pretraining", [override[0]])
    composed("demo", "pretraining", [override[0] for override in told[3:]])
    assert "no dropuot" in fault(overrides_in("`+model.dropuot=0.2`")[0], cfg)
