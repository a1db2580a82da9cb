"""Upstreams and heads: shapes, strides, independence from the rest of the batch."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import OmegaConf

from manifests.errors import InputError
from mmpt_fairseq.models.upstreams import UpstreamConfig, open_upstream, resolve_upstream
from mmpt_fairseq.modules.conformer import ConformerEncoder
from mmpt_fairseq.modules.superb_heads import (
    DiarizationHead,
    FrameHead,
    UtteranceHead,
    WeightedSum,
)
from mmpt_fairseq.modules.upstreams import (
    ConformerUpstream,
    FilterbankUpstream,
    StoredUpstream,
    deltas,
)
from tests.helpers import save_checkpoint, stage_1_checkpoint

SIZES = {
    "conv_feature_layers": "[(16, 10, 5), (16, 3, 4), (16, 2, 4), (16, 2, 4)]",
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2,
    "encoder_layers": 2,
    "conv_pos": 8,
    "conv_pos_groups": 2,
    "final_dim": 8,
}


def whole_config(model, task) -> dict:
    """The whole config of fairseq-hydra-train, with this model and task."""
    parts = {f.name: f.type for f in fields(FairseqConfig) if is_dataclass(f.type)}
    return {
        name: OmegaConf.to_container(OmegaConf.structured(part), enum_to_str=True)
        for name, part in {**parts, "model": model, "task": task}.items()
    }


@pytest.fixture
def fairseq_checkpoints(tmp_path):
    """Small wav2vec 2.0 and HuBERT checkpoints of fairseq."""
    torch.manual_seed(0)
    w2v = Wav2Vec2Config(_name="wav2vec2", **SIZES)
    task = AudioPretrainingConfig(_name="audio_pretraining", data=str(tmp_path), normalize=True)
    paths = {
        "wav2vec2": save_checkpoint(
            tmp_path / "w2v.pt", whole_config(w2v, task), Wav2Vec2Model(w2v).state_dict(), {}
        )
    }
    phones = Dictionary()
    phones.add_symbol("a")
    sizes = {**SIZES, "layer_norm_first": True}
    hubert = HubertConfig(_name="hubert", label_rate=50, **sizes)
    task = HubertPretrainingConfig(
        _name="hubert_pretraining", data=str(tmp_path), labels=["km"], normalize=False
    )
    model = HubertModel(hubert, HubertPretrainingConfig(label_rate=50), [phones])
    cfg = whole_config(hubert, task)
    cfg["task"]["label_rate"] = 50
    state = {"dictionaries": [phones]}
    paths["hubert"] = save_checkpoint(tmp_path / "hubert.pt", cfg, model.state_dict(), state)
    return paths


def check_independence_from_batch(upstream, source, lengths, tolerance=1e-5) -> torch.Tensor:
    """Check that states of a batch equal those of each clip alone; return them."""
    batch = upstream(source, lengths)
    assert batch.states.shape[:2] == (len(source), upstream.layers)
    assert batch.states.shape[3] == upstream.dim
    for i, length in enumerate(lengths.tolist()):
        alone = upstream(source[i : i + 1, :length], lengths[i : i + 1])
        states = int(batch.lengths[i])
        assert alone.states.shape[2] == states == int(alone.lengths)
        difference = (alone.states[0] - batch.states[i, :, :states]).abs().max()
        assert difference < tolerance
    return batch


def filterbanks() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, 41, 80), torch.tensor([41, 30, 9])


@torch.no_grad()
def test_conformer_states_depend_only_on_their_clip():
    encoder = ConformerEncoder(dim=16, layers=2, heads=2, ffn_dim=32, kernel=7).eval()
    upstream = ConformerUpstream(encoder, 16)
    batch = check_independence_from_batch(upstream, *filterbanks())
    assert (upstream.layers, upstream.stride, batch.lengths.tolist()) == (3, 4, [11, 8, 3])
    last = encoder(*filterbanks()).states
    assert torch.equal(batch.states[:, -1], last)


def test_filterbanks_have_deltas_and_unit_variance():
    source, lengths = filterbanks()
    states = check_independence_from_batch(FilterbankUpstream(), source, lengths).states
    clip = states[1, 0, :30]
    assert clip.shape == (30, 240)
    assert clip.mean(dim=0).abs().max() < 1e-5
    assert (clip.std(dim=0, correction=0) - 1).abs().max() < 1e-4


def test_deltas_are_the_slope_of_a_line_through_five_frames():
    x = np.random.default_rng(0).standard_normal((20, 3))
    padded = np.pad(x, ((2, 2), (0, 0)), mode="edge")
    slopes = np.stack([np.polyfit(range(5), padded[i : i + 5], 1)[0] for i in range(20)])
    np.testing.assert_allclose(deltas(torch.from_numpy(x)).numpy(), slopes, atol=1e-12)


@pytest.mark.parametrize("name", ["wav2vec2", "hubert"])
@torch.no_grad()
def test_fairseqs_models_are_upstreams(fairseq_checkpoints, name):
    upstream = open_upstream(fairseq_checkpoints[name])
    assert (upstream.reads, upstream.layers, upstream.stride) == ("waveform", 3, 2)
    source = torch.randn(2, 4000)
    batch = check_independence_from_batch(upstream, source, torch.tensor([4000, 2777]))
    # the last layer as computed by fairseq
    clip = source[:1]
    if name == "wav2vec2":
        clip = torch.nn.functional.layer_norm(clip, clip.shape[1:])
    expected = upstream.model.extract_features(clip, padding_mask=None, mask=False)
    expected = expected["x"] if isinstance(expected, dict) else expected[0]
    assert torch.allclose(batch.states[0, -1], expected[0], atol=1e-6)
    assert not any(p.requires_grad for p in upstream.parameters())
    assert not upstream.training


def test_sizes_are_read_from_our_checkpoints(tmp_path):
    model, path = stage_1_checkpoint(tmp_path / "stage1.pt")
    upstream = open_upstream(str(path))
    assert (upstream.layers, upstream.dim) == (3, 16)
    weights = upstream.encoder.state_dict()
    for name, tensor in model.audio_encoder.state_dict().items():
        assert torch.equal(weights[name], tensor)
    untrained = open_upstream(f"random:{path}")
    assert (untrained.layers, untrained.dim) == (3, 16)
    assert not torch.equal(
        untrained.encoder.layers[0].ffn1[1].weight, upstream.encoder.layers[0].ffn1[1].weight
    )


def test_unusable_upstreams_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no checkpoint"):
        open_upstream(str(tmp_path / "none.pt"))
    save_checkpoint(tmp_path / "x.pt", {"model": {"_name": "x"}}, {}, {})
    with pytest.raises(InputError, match=r"x.pt \(x\) is not an upstream"):
        open_upstream(str(tmp_path / "x.pt"))
    with pytest.raises(InputError, match=r"upstream=cached but there is no .*upstream.json"):
        resolve_upstream(UpstreamConfig(upstream="cached"), tmp_path)


def test_stored_states_of_other_sizes_are_refused():
    with pytest.raises(InputError, match="store them with the upstream"):
        StoredUpstream(3, 16, 4)(torch.zeros(1, 7, 2, 16), torch.tensor([7]))


def test_weighted_sum_is_a_mean_at_the_start_and_sums_by_softmax():
    mix = WeightedSum(3)
    states = torch.randn(2, 3, 5, 4)
    assert torch.allclose(mix(states), states.mean(dim=1), atol=1e-6)
    mix.scores.data = torch.tensor([0.0, 100.0, 0.0])
    assert torch.allclose(mix(states), states[:, 1], atol=1e-6)
    assert mix.weights.sum() == 1


@pytest.mark.parametrize("head", [UtteranceHead, FrameHead, DiarizationHead])
@torch.no_grad()
def test_heads_ignore_padding(head):
    torch.manual_seed(0)
    head = head(8, 3, 16)
    x, lengths = torch.randn(2, 9, 8), torch.tensor([9, 5])
    x[1, 5:] = 1e3
    batch, alone = head(x, lengths), head(x[1:, :5], lengths[1:])
    assert torch.allclose(batch[1] if batch.dim() == 2 else batch[1, :5], alone[0], atol=1e-5)
