"""Exported encoders give the same output as the original."""

import copy
import json
import os

import numpy as np
import pytest
import torch

import mmpt_fairseq
from manifests.errors import InputError
from mmpt_fairseq.data.audio import normalise, read_filterbank
from mmpt_fairseq.export import export, load_exported, main
from mmpt_fairseq.models.encoder_config import ConformerConfig, build_conformer
from mmpt_fairseq.transcription import SpeechModel

pytest.importorskip("safetensors", reason="the extra export is not installed")

LENGTHS = [[1], [2], [7], [50], [1000], [4001], [400, 400, 17], [9, 8, 5, 4, 3, 1]]


class Holder(torch.nn.Module):
    """A model with nothing but an encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.audio_encoder = encoder


@pytest.fixture(scope="module", params=["sinusoidal", "rotary"])
def exported(request, tmp_path_factory):
    """An encoder with random weights, and the folder to which it is exported."""
    cfg = ConformerConfig(
        encoder_embed_dim=32,
        encoder_layers=3,
        encoder_ffn_embed_dim=64,
        depthwise_conv_kernel_size=7,
        encoder_positions=request.param,
    )
    torch.manual_seed(0)
    encoder = build_conformer(cfg).eval()
    folder = tmp_path_factory.mktemp("exported") / request.param
    export(SpeechModel(Holder(encoder), None, vars(cfg), ""), folder, onnx=True)
    return encoder, folder


def batch(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(len(lengths))
    features = torch.randn(len(lengths), max(lengths), 80)
    for row, length in enumerate(lengths):
        features[row, length:] = 0
    return features, torch.tensor(lengths)


@torch.no_grad()
def test_reloaded_encoder_is_bit_identical(exported):
    encoder, folder = exported
    reloaded = load_exported(folder)
    assert not reloaded.training
    features, lengths = batch([90, 41])
    assert torch.equal(reloaded(features, lengths).states, encoder(features, lengths).states)


@torch.no_grad()
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_onnx_matches_torch_for_any_length(exported, lengths):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    encoder, folder = exported
    features, lengths = batch(lengths)
    encoded = encoder(features, lengths)
    session = onnxruntime.InferenceSession(folder / "encoder.onnx")
    states, state_lengths = session.run(
        None, {"features": features.numpy(), "lengths": lengths.numpy()}
    )
    assert states.shape == encoded.states.shape
    assert state_lengths.tolist() == encoded.lengths.tolist()
    valid = ~encoded.padding.numpy()
    np.testing.assert_allclose(states[valid], encoded.states.numpy()[valid], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("stage", ["pretraining", "finetuning"])
def test_export_of_a_checkpoint(stages, corpora, tmp_path, capsys, stage):
    checkpoint = stages / stage / "checkpoint_last.pt"
    main([str(checkpoint), str(tmp_path / "out")])
    files = capsys.readouterr().out.split()
    assert files == [str(tmp_path / "out" / f) for f in ("encoder.safetensors", "config.json")]
    weights, config = (os.stat(f).st_mode for f in files)
    assert weights == config
    path = str(corpora / "asr" / "3.wav")
    features = torch.from_numpy(normalise(read_filterbank(path)))[None]
    states = load_exported(tmp_path / "out")(features, torch.tensor([features.size(1)])).states
    expected = mmpt_fairseq.load(checkpoint, "cpu").extract_features(path)
    np.testing.assert_allclose(states[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("weights_fit", [True, False])
def test_an_encoder_that_its_sizes_do_not_describe_is_refused(exported, tmp_path, weights_fit):
    """An extension may compute something else with the same weights, or with others."""
    encoder = copy.deepcopy(exported[0])
    if weights_fit:
        encoder.layers[0].convolution.forward = lambda x, *args: torch.zeros_like(x)
    else:
        encoder.layers[0].convolution = torch.nn.Linear(32, 32)
    sizes = json.loads((exported[1] / "config.json").read_text())["encoder"]
    with pytest.raises(InputError, match="but an extension's, which cannot be rebuilt"):
        export(SpeechModel(Holder(encoder), None, sizes, ""), tmp_path / "out")


def test_invalid_exports_are_rejected(exported, tmp_path):
    _, folder = exported
    with pytest.raises(InputError, match=r"there is no .*config\.json"):
        load_exported(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "encoder.safetensors").write_bytes((folder / "encoder.safetensors").read_bytes())

    def refused(config: object) -> str:
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(InputError) as caught:
            load_exported(tmp_path)
        return str(caught.value)

    assert "its format is other" in refused({**config, "format": "other"})
    assert "does not describe an exported encoder" in refused([])
    assert "does not describe an exported encoder" in refused({**config, "encoder": {"wide": 3}})
    positions = {**config["encoder"], "encoder_positions": "foo"}
    sentence = refused({**config, "encoder": positions})
    assert "config.json" in sentence
    assert "encoder_positions=foo must be sinusoidal or rotary" in sentence
    shallower = {**config["encoder"], "encoder_layers": 2}
    assert "does not match the encoder" in refused({**config, "encoder": shallower})
    (tmp_path / "encoder.safetensors").write_bytes(b"torso")
    assert "does not match the encoder" in refused(config)


def test_output_folder_that_is_a_file_is_rejected(stages, tmp_path):
    (tmp_path / "file").write_text("")
    checkpoint = stages / "pretraining" / "checkpoint_last.pt"
    with pytest.raises(SystemExit, match="cannot create the folder"):
        main([str(checkpoint), str(tmp_path / "file")])
