"""Safe loading of checkpoints, and loading an encoder or decoder of an earlier stage."""

import argparse
import os
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils

from manifests.errors import InputError
from mmpt_fairseq.checkpoint import encoder_state, load_checkpoint, load_decoder, load_encoder
from mmpt_fairseq.modules.conformer import ConformerEncoder
from tests.commands import generate, refused, train
from tests.helpers import av_model, speech_model, speech_task


class RunsCode:
    """Creates a folder when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def save(path: Path, model: torch.nn.Module, **extra) -> Path:
    state = {"model": model.state_dict(), "cfg": None, "args": None}
    history = [{"criterion_name": "x", "best_loss": 1.0, "num_updates": 1}]
    extras = {"optimizer_history": history, "extra_state": {"epoch": 1, "val_loss": 1.0}}
    torch.save({**state, **extras, **extra}, path)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_runs_code_is_rejected_without_running_it(tmp_path, legacy):
    witness, path = tmp_path / "it-ran", tmp_path / "hostile.pt"
    content = {"model": {}, "extra": RunsCode(witness)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match="refused"):
        load_checkpoint(path)
    assert not witness.exists()
    # Without the protection the same file does run its code: the payload works.
    torch.load(path, weights_only=False)
    assert witness.exists()


def test_commands_reject_a_pickle_that_runs_code(tmp_path, corpora):
    witness, path = tmp_path / "it-ran", tmp_path / "hostile.pt"
    torch.save({"model": {}, "cfg": RunsCode(witness)}, path)
    assert "hostile.pt was refused" in refused(generate(path, corpora / "asr", "test"))
    options = [f"model.init_encoder_from={path}"]
    output = train("finetuning", corpora / "asr", tmp_path / "run", *options)
    assert "hostile.pt was refused" in refused(output)
    assert not witness.exists()


def test_checkpoints_with_argparse_namespaces_load(tmp_path):
    namespace = argparse.Namespace(arch="x", lr=[0.1])
    path = tmp_path / "old.pt"
    save(path, torch.nn.Linear(1, 1), old=namespace)
    assert load_checkpoint(path)["old"].lr == [0.1]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 cut short"])
def test_unreadable_files_are_named(tmp_path, content):
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    message = r"broken\.pt is not a (readable )?checkpoint"
    with pytest.raises(InputError, match=message):
        load_checkpoint(path)
    # Only fairseq's commands end: a notebook can handle an exception.
    with pytest.raises(InputError, match=message):
        checkpoint_utils.load_model_ensemble_and_task([str(path)])


def test_a_plain_state_dict_is_rejected(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(InputError, match=r"weights\.pt is not a fairseq checkpoint"):
        load_checkpoint(path)


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no checkpoint .*nowhere\.pt"):
        load_checkpoint(tmp_path / "nowhere.pt")


def test_encoder_is_loaded_from_stage_1_or_2(tmp_path, caplog):
    """The tensors that are not loaded are logged."""
    caplog.set_level("INFO")
    for stage in (av_model(), speech_model()):
        path = save(tmp_path / "stage.pt", stage)
        target = speech_model().encoder.audio_encoder
        for parameter in target.parameters():
            torch.nn.init.constant_(parameter, 7.0)
        load_encoder(target, path)
        expected = encoder_state(stage.state_dict())
        assert expected
        assert all(torch.equal(v, expected[k]) for k, v in target.state_dict().items())
    assert "decoder.mask_token (1)" in caplog.text
    assert "encoder.ctc_projection (2)" in caplog.text


@pytest.mark.parametrize(("name", "warns"), [("mmpt_av_pretraining", False), ("mine", True)])
def test_an_encoder_of_another_model_is_warned_of(tmp_path, caplog, name, warns):
    """Its weights may fit a module that computes something else."""
    path = save(tmp_path / "stage.pt", av_model(), cfg={"model": {"_name": name}})
    load_encoder(speech_model().encoder.audio_encoder, path)
    assert (f"{path} is of the model {name}: if its encoder computes" in caplog.text) == warns


def test_last_layers_can_be_newly_initialised(tmp_path):
    stage = av_model()
    path = save(tmp_path / "stage.pt", stage)
    target = speech_model().encoder.audio_encoder  # two layers
    before = {k: v.clone() for k, v in target.state_dict().items()}
    load_encoder(target, path, fresh_layers=1)
    loaded = encoder_state(stage.state_dict())
    for name, tensor in target.state_dict().items():
        source = before if name.startswith("layers.1.") else loaded
        assert torch.equal(tensor, source[name])
    for count in (-1, 3):
        with pytest.raises(InputError, match="not between 0 and the encoder's 2 layers"):
            load_encoder(target, path, fresh_layers=count)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 3}, r"has 2 layers and this one has 3 .*set model\.encoder_layers=2"),
        ({"dim": 32}, r"has another size: .*set model\.encoder_embed_dim"),
        ({"kernel": 9}, r"depthwise\.weight is \(16, 1, 7\) there and \(16, 1, 9\) here"),
    ],
)
def test_an_encoder_of_another_size_is_rejected(tmp_path, options, message):
    path = save(tmp_path / "stage1.pt", av_model())
    sizes = {"dim": 16, "layers": 2, "heads": 4, "ffn_dim": 32, "kernel": 7, **options}
    encoder = ConformerEncoder(**sizes)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with pytest.raises(InputError, match=message):
        load_encoder(encoder, path)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


@pytest.mark.parametrize("options", [{"heads": 8}, {"positions": "rotary"}])
def test_settings_that_do_not_affect_shapes_are_compared(tmp_path, options):
    settings = {"encoder_attention_heads": 4, "encoder_positions": "sinusoidal"}
    path = save(tmp_path / "stage1.pt", av_model(), cfg={"model": settings})
    sizes = {"dim": 16, "layers": 2, "ffn_dim": 32, "kernel": 7}
    load_encoder(ConformerEncoder(**sizes), path)
    with pytest.raises(InputError, match=r"set model\.encoder_"):
        load_encoder(ConformerEncoder(**sizes, **options), path)


def test_a_decoder_with_another_number_of_heads_is_rejected(tmp_path):
    """Its tensors have the same names and shapes."""
    source, ours = speech_model(decoder_attention_heads=1), speech_task().state_dict()
    cfg = {"model": {"decoder_attention_heads": 1}}
    path = save(tmp_path / "stage2.pt", source, task_state=ours, cfg=cfg)
    load_decoder(speech_model(decoder_attention_heads=1), path, ours)
    with pytest.raises(InputError, match=r"set model\.decoder_attention_heads=1"):
        load_decoder(speech_model(decoder_attention_heads=4), path, ours)


def test_a_checkpoint_without_an_encoder_is_rejected(tmp_path):
    path = save(tmp_path / "other.pt", torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="has no audio encoder"):
        load_encoder(ConformerEncoder(16, 1, 4, 32, 7), path)


def test_the_decoder_is_loaded_with_its_ctc_head(tmp_path):
    source, target, task = speech_model(), speech_model(), speech_task()
    path = save(tmp_path / "stage2.pt", source, task_state=task.state_dict())
    for parameter in target.parameters():
        torch.nn.init.constant_(parameter, 7.0)
    load_decoder(target, path, task.state_dict())
    for name, tensor in target.state_dict().items():
        ours = "audio_encoder" not in name
        assert torch.equal(tensor, source.state_dict()[name]) == ours, name


@pytest.mark.parametrize("head", [True, False])
def test_a_ctc_head_that_only_one_model_has_is_not_loaded(tmp_path, caplog, head):
    """As with the recipes: stage 2's have none, stage 3's have one."""
    caplog.set_level("INFO")
    source, target, task = speech_model(ctc=not head), speech_model(ctc=head), speech_task()
    path = save(tmp_path / "stage2.pt", source, task_state=task.state_dict())
    for parameter in target.parameters():
        torch.nn.init.constant_(parameter, 7.0)
    load_decoder(target, path, task.state_dict())
    for name, tensor in target.state_dict().items():
        if name.startswith("decoder."):
            assert torch.equal(tensor, source.state_dict()[name]), name
        else:
            assert (tensor == 7.0).all(), name
    note = "which has no CTC head: a new one is" if head else "whose CTC head is not loaded"
    count = len(target.decoder.state_dict())
    assert f"loaded {count} tensors of the decoder from {path}, {note}" in caplog.text


def test_a_decoder_that_does_not_match_is_rejected(tmp_path):
    path = save(tmp_path / "stage2.pt", speech_model(), task_state=speech_task().state_dict())
    other = speech_task(("a", "b", "z")).state_dict()
    with pytest.raises(InputError, match=r"another vocabulary \(3 entries\) than .*\(3\)"):
        load_decoder(speech_model(), path, other)
    ours = speech_task().state_dict()
    sizes = ("decoder_layers", 2), ("decoder_ffn_embed_dim", 16), ("encoder_embed_dim", 32)
    for name, size in sizes:
        with pytest.raises(InputError, match="has another size"):
            load_decoder(speech_model(**{name: size}), path, ours)
    with pytest.raises(InputError, match="has no decoder"):
        load_decoder(speech_model(), save(tmp_path / "stage1.pt", av_model()), ours)
