"""The configs of stages 2 and 3: all compose from existing keys, and one per stage is trained."""

from dataclasses import fields

import pytest
from fairseq.dataclass.initialize import hydra_init
from fairseq.optim import FP16Optimizer
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyConfig
from mmpt_fairseq.models.freezing import scaled_encoder_lr
from mmpt_fairseq.models.speech_to_text import SpeechToTextModelConfig
from mmpt_fairseq.tasks.speech_to_text import SpeechToTextConfig
from tests.commands import BIN, ROOT, SIZES, TINY, losses, refused, run, succeeded
from tests.helpers import speech_model

EXAMPLES = ROOT / "examples"
NAMES = [
    *(("midtraining", f"mustc_en_{language}") for language in ("de", "it", "nl", "all")),
    *(
        ("finetuning", f"librispeech_{hours}_{kind}")
        for hours in ("960h", "100h")
        for kind in ("frozen", "free", "scheduled", "pretrained", "scratch")
    ),
]
# Hydra's deprecation warning about fairseq's way of providing its schema.
pytestmark = pytest.mark.filterwarnings("ignore:\\s*'.*is validated against ConfigStore")


def composed(stage, name, *overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(EXAMPLES / stage / "config"), version_base="1.1"):
        hydra_init(name)  # as in fairseq-hydra-train: registers a schema of the same name
        return compose(name, overrides=["checkpoint.save_dir=runs/x", *overrides])


@pytest.fixture(autouse=True)
def clear_hydra():
    yield
    GlobalHydra.instance().clear()


def test_every_config_is_listed_here():
    folders = [EXAMPLES / stage / "config" for stage in ("midtraining", "finetuning")]
    found = {(f.parts[-2], path.stem) for f in folders for path in f.glob("*.yaml")}
    assert found == set(NAMES)


@pytest.mark.parametrize(("stage", "name"), NAMES)
def test_every_config_composes_from_existing_keys(stage, name):
    cfg = composed(stage, name, "optimization.max_update=7")
    assert cfg.optimization.max_update == 7
    for part, known in (
        (cfg.task, SpeechToTextConfig),
        (cfg.model, SpeechToTextModelConfig),
        (cfg.criterion, LabelSmoothedCrossEntropyConfig),
    ):
        assert set(part) <= {"_name", *(field.name for field in fields(known))}
    assert cfg.task.data.startswith("data/")
    assert cfg.checkpoint.best_checkpoint_metric == ("bleu" if stage == "midtraining" else "wer")
    assert cfg.task[f"eval_{cfg.checkpoint.best_checkpoint_metric}"]
    assert cfg.model.get("freeze_encoder", False) == name.endswith(("frozen", "pretrained"))
    header = (EXAMPLES / stage / "config" / f"{name}.yaml").read_text().split("\ndefaults")[0]
    assert f"--config-name {name} " in header
    assert f"save_dir=runs/{name}" in header
    assert ("init_encoder_from=" in header) != name.endswith("scratch")


def test_sizes_match_stage_1_and_base_matches_the_paper():
    for size, layers, width in (("base", 16, 256), ("small", 12, 256), ("tiny", 4, 128)):
        cfg = composed(*NAMES[-1], f"size={size}")
        model = SpeechToTextModelConfig(**{k: v for k, v in cfg.model.items() if k != "_name"})
        assert (model.encoder_layers, model.encoder_embed_dim) == (layers, width)
        assert model.encoder_attention_heads == 4


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("midtraining", "mustc_en_all"),
        ("finetuning", "librispeech_960h_free"),
        ("demo", "midtraining"),
        ("demo", "finetuning"),
    ],
)
def test_the_encoder_can_have_its_own_learning_rate_with_fp16(stage, name):
    """fairseq's fp16 optimizer flattens its 32-bit copies into one tensor by default."""
    cfg = composed(stage, name, "common.fp16=true", "optimization.lr=[0.5]")
    model = speech_model(encoder_lr_scale=0.1).half()
    optimizer = FP16Optimizer.build_optimizer(cfg, list(model.parameters()))
    optimizer.set_lr(0.5)
    encoder = sum(p.numel() for p in model.encoder.audio_encoder.parameters())
    with scaled_encoder_lr(optimizer, 0.1):
        rates = {g["lr"]: sum(p.numel() for p in g["params"]) for g in optimizer.param_groups}
    assert rates == {0.05: encoder, 0.5: sum(p.numel() for p in model.parameters()) - encoder}


def train(stage, name, data, save_dir, *overrides):
    """Run ``fairseq-hydra-train`` with a config at test size."""
    command = [BIN / "fairseq-hydra-train", "--config-dir", EXAMPLES / stage / "config"]
    command += ["--config-name", name, "size=tiny", f"task.data={data}"]
    sizes = [*SIZES["midtraining"], "dataset.valid_subset=valid", "dataset.train_subset=train"]
    return run([*command, f"checkpoint.save_dir={save_dir}", *TINY, *sizes, *overrides])


def test_midtraining_keeps_the_best_and_finetuning_needs_an_encoder(stages, corpora, tmp_path):
    start = f"model.init_encoder_from={stages / 'pretraining' / 'checkpoint_last.pt'}"
    short = "generation.max_len_b=10"
    output = train("midtraining", "mustc_en_de", corpora / "st", tmp_path / "st", start, short)
    scores = [float(score) for score in losses(succeeded(output), "valid_bleu")]
    best = load_checkpoint(tmp_path / "st" / "checkpoint_best.pt")
    assert best["extra_state"]["best"] == pytest.approx(max(scores), abs=0.01)
    message = refused(
        train("finetuning", "librispeech_100h_frozen", corpora / "asr", tmp_path / "asr", short)
    )
    assert "untrained encoder; set model.init_encoder_from" in message
