import pytest
import torch

from manifests.errors import InputError
from tests.helpers import speech_batch, speech_model


@torch.no_grad()
def test_outputs_do_not_depend_on_the_batch_and_padding():
    model = speech_model()
    batch = speech_batch([120, 57, 9], [[4, 5, 4], [5], [6, 6]])
    inputs = batch["net_input"]
    logits, extra = model(**inputs)
    ctc, lengths = model.get_ctc_output((logits, extra), batch)
    assert ctc.shape == (30, 3, 7)
    assert lengths.tolist() == [30, 15, 3]
    assert torch.allclose(ctc.exp().sum(-1), torch.ones(30, 3), atol=1e-5)
    for row, (frames, tokens) in enumerate([(120, 4), (57, 2), (9, 3)]):
        alone, alone_extra = model(
            inputs["src_tokens"][row : row + 1, :frames],
            inputs["src_lengths"][row : row + 1],
            inputs["prev_output_tokens"][row : row + 1, :tokens],
        )
        assert torch.allclose(alone[0], logits[row, :tokens], atol=1e-5)
        own, _ = model.get_ctc_output((alone, alone_extra), batch)
        assert torch.allclose(own[:, 0], ctc[: len(own), row], atol=1e-5)


@torch.no_grad()
def test_padding_values_do_not_affect_logits_bit_for_bit():
    model = speech_model()
    inputs = speech_batch([40, 21], [[4], [5]])["net_input"]
    first, _ = model(**inputs)
    inputs["src_tokens"][1, 21:] = float("nan")
    assert torch.equal(model(**inputs)[0], first)


@torch.no_grad()
def test_reorder_encoder_out_reorders_all_decoder_inputs():
    model = speech_model()
    inputs = speech_batch([40, 21], [[4], [5]])["net_input"]
    encoded = model.encoder(inputs["src_tokens"], inputs["src_lengths"])
    order = torch.tensor([1, 1, 0])
    moved = model.encoder.reorder_encoder_out(encoded, order)
    tokens = inputs["prev_output_tokens"]
    expected = model.decoder(tokens, encoder_out=encoded)[0][order]
    assert torch.allclose(model.decoder(tokens[order], encoder_out=moved)[0], expected, atol=1e-6)


def test_frozen_encoder_has_neither_gradients_nor_dropout():
    model = speech_model(freeze_encoder=True, dropout=0.3).train()
    batch = speech_batch([40, 21], [[4], [5]])
    inputs = batch["net_input"]
    states = [model.encoder(inputs["src_tokens"], inputs["src_lengths"]) for _ in range(2)]
    assert torch.equal(states[0]["encoder_out"][0], states[1]["encoder_out"][0])
    logits, extra = model(**inputs)
    ctc, _ = model.get_ctc_output((logits, extra), batch)
    (logits.square().sum() + ctc.square().sum()).backward()
    learns = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not any(name.startswith("encoder.audio_encoder.") for name in learns)
    assert {n for n, _ in model.named_parameters() if "audio_encoder" not in n} == learns
    assert all(not p.requires_grad for p in model.encoder.audio_encoder.parameters())


def test_unfrozen_encoder_has_gradients_and_dropout():
    model = speech_model(dropout=0.3).train()
    batch = speech_batch([40, 21], [[4], [5]])
    logits, extra = model(**batch["net_input"])
    ctc, _ = model.get_ctc_output((logits, extra), batch)
    (logits.square().sum() + ctc.square().sum()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert not torch.equal(model(**batch["net_input"])[0], logits)  # dropout


def test_model_without_ctc_and_decoder_is_refused():
    with pytest.raises(InputError, match="leave no output layer"):
        speech_model(ctc=False, decoder_layers=0)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"decoder_attention_heads": 3}, r"not a multiple of model\.decoder_attention_heads=3"),
        ({"encoder_attention_heads": 3}, r"not a multiple of model\.encoder_attention_heads=3"),
        ({"decoder_embed_dim": 0}, r"model\.decoder_embed_dim=0 is not a multiple"),
        ({"encoder_layers": 0}, r"model\.encoder_layers=0 must be at least 1"),
        ({"decoder_layers": -1}, r"model\.decoder_layers=-1 must be at least 0"),
        ({"max_target_positions": -5}, r"model\.max_target_positions=-5 must be at least 1"),
        ({"dropout": 1.5}, r"model\.dropout=1\.5 is not between 0 and 1"),
        ({"depthwise_conv_kernel_size": 30}, r"model\.depthwise_conv_kernel_size=30 must be odd"),
        (
            {"encoder_embed_dim": 12, "encoder_positions": "rotary"},
            r"rotary rotates channel pairs, .* each head has 3; set model\.encoder_embed_dim",
        ),
    ],
)
def test_inconsistent_sizes_are_refused_by_name(options, key):
    with pytest.raises(InputError, match=key):
        speech_model(**options)


def test_ctc_weight_without_a_ctc_head_is_refused():
    model = speech_model(ctc=False)
    batch = speech_batch([40], [[4]])
    with pytest.raises(InputError, match="ctc_weight"):
        model.get_ctc_output(model(**batch["net_input"]), batch)
