"""Commands and overrides in the READMEs compose with Hydra and name existing keys."""

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

# README -> folder of the configs that it describes, and some of them.
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
# A deprecation in how fairseq registers its schema.
pytestmark = pytest.mark.filterwarnings("ignore:\\s*'.*is validated against ConfigStore")


def inline_code_overrides(text: str) -> list[list[re.Match]]:
    """Every ``group.key=value`` in each inline code span of a text, without code blocks."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    code = [span.split() for span in re.findall(r"`([^`]+)`", text)]
    return [list(filter(None, map(OVERRIDE.fullmatch, words))) for words in code]


def overrides_in(text: str) -> list[re.Match]:
    """Every ``group.key=value`` in the inline code of a text."""
    return [override for span in inline_code_overrides(text) for override in span]


def composed(folder: str, name: str, overrides: Sequence[str] = ()) -> dict:
    """The config as ``fairseq-hydra-train`` composes it."""
    import_user_module(Namespace(user_dir=str(ROOT / "mmpt_fairseq")))
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "examples" / folder / "config"), version_base="1.1"):
        hydra_init(name)  # as the command does: its own config is a schema of the same name
        cfg = compose(name, overrides=list(overrides))
    GlobalHydra.instance().clear()
    return OmegaConf.to_container(cfg)


def fault(override: re.Match, cfg: dict) -> str:
    """Why Hydra or fairseq would reject an override; empty if they would not."""
    plus, group, key = override.groups()
    part = cfg.get(group, {})
    if group in REGISTRIES:
        known = {field.name for field in fields(REGISTRIES[group][part["_name"]])}
        if key not in {*known, "_name"}:
            return f"{group} has no {key}"
    if plus == "+" and key in part:
        return f"{group}.{key} is in the config and takes no +"
    return "" if plus or key in part else f"{group}.{key} is not in the config and needs a +"


@pytest.mark.parametrize("readme", CONFIGS)
def test_overrides_in_readmes_exist(readme):
    folder, names = CONFIGS[readme]
    overrides = overrides_in((ROOT / readme).read_text(encoding="utf-8"))
    assert overrides
    configs = [composed(folder, name) for name in names]
    for override in overrides:
        faults = [fault(override, cfg) for cfg in configs]
        assert not all(faults), (override[0], faults)


@pytest.mark.parametrize(
    ("readme", "name"),
    [("examples/OPTIONS.md", "midtraining"), ("examples/midtraining/README.md", "mustc_en_it")],
)
def test_overrides_of_the_ctc_weight_fit_the_model(readme, name):
    """Model and criterion of the config give a CTC loss with each override of its weight."""
    spans = inline_code_overrides((ROOT / readme).read_text(encoding="utf-8"))
    overrides = [span for span in spans if any(o[3] == "ctc_weight" for o in span)]
    assert overrides
    for span in overrides:
        cfg = composed(CONFIGS[readme][0], name, [override[0] for override in span])
        settings = False, 0.1, 0, True, cfg["criterion"]["ctc_weight"]
        criterion = ManifestLabelSmoothedCrossEntropy(speech_task(), *settings)
        model = speech_model(ctc=cfg["model"].get("ctc", True))
        _, _, logs = criterion(model, speech_batch([40], [[4, 5]]))
        assert logs["ctc_loss"] > 0


def commands_in(text: str, program: str) -> Iterator[list[str]]:
    """Arguments of every line of a text that starts with ``program``, with variables filled in."""
    text = text.replace("\\\n", " ")
    variables = dict(re.findall(r'^(\w+)="(.*)"$', text, flags=re.MULTILINE))
    for line in re.findall(rf"^ *{program} (.*)$", text, flags=re.MULTILINE):
        yield shlex.split(Template(line).substitute(variables))


def readmes() -> list[str]:
    """READMEs with a training command."""
    found = [ROOT / "README.md", *ROOT.glob("examples/**/README.md")]
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in found}
    return [name for name, text in texts.items() if any(commands_in(text, TRAIN))]


@pytest.mark.parametrize("readme", readmes())
def test_training_commands_in_readmes_compose(readme):
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


def test_fault_agrees_with_hydra():
    cfg = composed("demo", "pretraining")
    text = "`+model.normalise_targets=true`, `model.dropout=0.2` and `+checkpoint.patience=3`, but "
    text += "`model.normalise_targets=true` | `+model.dropout=0.2 checkpoint.patience=3` |"
    overrides = overrides_in(text)
    assert [bool(fault(override, cfg)) for override in overrides] == [True] * 3 + [False] * 3
    for override in overrides[:3]:
        with pytest.raises(HydraException):
            composed("demo", "pretraining", [override[0]])
    composed("demo", "pretraining", [override[0] for override in overrides[3:]])
    assert "no dropuot" in fault(overrides_in("`+model.dropuot=0.2`")[0], cfg)
