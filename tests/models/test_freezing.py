import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from fairseq.optim import FP16Optimizer
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig
from fairseq.optim.nag import FairseqNAG, FairseqNAGConfig
from omegaconf import OmegaConf

from manifests.errors import InputError
from mmpt_fairseq.models.freezing import (
    AFTER_LAST_UPDATE,
    Freezing,
    refuse_weight_decay,
    restart_encoder_moments,
    scaled_encoder_lr,
    torch_optimizers,
)
from tests.helpers import speech_batch, speech_model, speech_task

BATCH = speech_batch([40, 21], [[4], [5]])


def adam(parameters):
    """fairseq's Adam over what requires gradients, as its trainer builds it."""
    settings = {"lr": [0.01], "weight_decay": 0.1, "adam_betas": "(0.9, 0.98)", "tpu": False}
    cfg = OmegaConf.create(vars(FairseqAdamConfig(**settings)))
    return FairseqAdam(cfg, [p for p in parameters if p.requires_grad])


def update(task, model, optimizer, number):
    """One update in fairseq's order: train mode, update number, forward, backward, step."""
    model.train()
    model.set_num_updates(number)
    logits, extra = model(**BATCH["net_input"])
    ctc, _ = model.get_ctc_output((logits, extra), BATCH)
    (logits.square().mean() + ctc.square().mean()).backward()
    for parameter in model.parameters():  # as distributed training does
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    task.optimizer_step(optimizer, model, number)
    optimizer.zero_grad()


def encoder_weights(model) -> dict[str, torch.Tensor]:
    state = model.encoder.audio_encoder.state_dict()
    return {name: tensor.clone() for name, tensor in state.items()}


def changed(before: dict, model) -> set[str]:
    return {k for k, v in encoder_weights(model).items() if not torch.equal(v, before[k])}


def states(model) -> torch.Tensor:
    inputs = BATCH["net_input"]
    return model.encoder(inputs["src_tokens"], inputs["src_lengths"])["encoder_out"][0]


@pytest.mark.parametrize(
    ("freezing", "text"),
    [
        (Freezing(), "frozen: nothing"),
        (Freezing(whole=True), "frozen: the encoder"),
        (Freezing(updates=9), "frozen: the encoder for the first 9 updates"),
        (
            Freezing(updates=9, layers=2, fresh=1),
            "frozen: the encoder except its last layers (1) for the first 9 updates, then its "
            "subsampling and first layers (2)",
        ),
    ],
)
def test_str_describes_the_frozen_parts(freezing, text):
    assert str(freezing) == text


def test_encoder_unfreezes_after_the_given_updates(caplog):
    caplog.set_level("INFO")
    task, model = speech_task(), speech_model(freeze_encoder_updates=3, dropout=0.3)
    optimizer, before = adam(model.parameters()), encoder_weights(model)
    head = model.encoder.ctc_projection.weight.clone()
    for number in range(3):
        update(task, model, optimizer, number)
        assert changed(before, model) == set()
        assert torch.equal(states(model), states(model))  # no dropout
    assert not torch.equal(head, model.encoder.ctc_projection.weight)
    model.set_num_updates(AFTER_LAST_UPDATE)  # as in the dry run of the largest batch
    model.set_num_updates(2)
    assert "unfrozen" not in caplog.text
    update(task, model, optimizer, 3)
    assert "update 3: encoder layers frozen until now are unfrozen" in caplog.text
    assert changed(before, model) == before.keys()
    assert not torch.equal(states(model), states(model))


def test_fresh_layers_learn_while_the_others_are_frozen():
    """Frozen layers get no gradients, which would count in the norm for gradient clipping."""
    options = {"freeze_encoder_updates": 2, "fresh_encoder_layers": 1, "dropout": 0.3}
    task, model = speech_task(), speech_model(**options)
    optimizer, before = adam(model.parameters()), encoder_weights(model)
    fresh = {name for name in before if name.startswith("layers.1.")}
    model.train()
    states(model).square().mean().backward()
    given = {n for n, p in model.encoder.audio_encoder.named_parameters() if p.grad is not None}
    assert given
    assert given <= fresh
    encoder = model.encoder.audio_encoder
    frozen = [encoder.subsample, encoder.dropout, encoder.layers[0]]
    assert not any(module.training for module in frozen)
    assert all(module.training for module in encoder.layers[1].modules())
    optimizer.zero_grad()
    for number in range(2):
        update(task, model, optimizer, number)
        assert changed(before, model) == fresh
    update(task, model, optimizer, 2)
    assert changed(before, model) == before.keys()


def test_run_resumed_while_frozen_still_unfreezes():
    """When resuming, fairseq sets the number of updates before it builds the optimizer."""
    task, model = speech_task(), speech_model(freeze_encoder_updates=3)
    model.set_num_updates(1)
    optimizer, before = adam(model.parameters()), encoder_weights(model)
    update(task, model, optimizer, 2)
    assert changed(before, model) == set()
    update(task, model, optimizer, 3)
    assert changed(before, model) == before.keys()


def test_first_layers_stay_frozen():
    task, model = speech_task(), speech_model(freeze_encoder_layers=1, dropout=0.3)
    optimizer, before = adam(model.parameters()), encoder_weights(model)
    for number in range(2):
        update(task, model, optimizer, number)
    assert changed(before, model) == {k for k in before if k.startswith("layers.1.")}
    inputs = BATCH["net_input"]
    first, second = (
        model.encoder.audio_encoder(inputs["src_tokens"], inputs["src_lengths"], keep_layers=True)
        for _ in range(2)
    )
    assert torch.equal(first.layers[1], second.layers[1])
    assert not torch.equal(first.layers[2], second.layers[2])


def test_encoder_has_its_own_learning_rate():
    """Adam's step is proportional to the learning rate, independent of gradient magnitude."""
    steps = {}
    for scale in (1.0, 0.1):
        task, model = speech_task(), speech_model(encoder_lr_scale=scale, dropout=0.0)
        task.encoder_lr_scale = scale
        optimizer = adam(model.parameters())
        before = {k: v.clone() for k, v in model.state_dict().items()}
        update(task, model, optimizer, 0)
        steps[scale] = {k: v - before[k] for k, v in model.state_dict().items()}
        assert len(optimizer.param_groups) == 1  # as stored in checkpoints
        assert optimizer.get_lr() == 0.01
    for name, step in steps[1.0].items():
        factor = 0.1 if "audio_encoder" in name else 1.0
        assert torch.allclose(steps[0.1][name], factor * step, atol=2e-6), name
        assert step.any() or "version" in name or "_float_tensor" in name, name


def test_step_counts_in_parameter_groups_are_kept():
    """As in fairseq's fused Adam, which only runs on GPUs."""
    model = speech_model(encoder_lr_scale=0.1)
    optimizer, steps = adam(model.parameters()), []
    for _ in range(3):
        with scaled_encoder_lr(optimizer, 0.1):
            for group in optimizer.optimizer.param_groups:
                group["step"] = group.get("step", 0) + 1
                steps.append(group["step"])
    assert steps == [1, 1, 2, 2, 3, 3]
    assert optimizer.get_lr() == 0.01
    assert len(optimizer.param_groups[0]["params"]) == sum(1 for _ in model.parameters())


def test_an_optimizer_whose_state_depends_on_the_rate_is_refused():
    """Nesterov's momentum is scaled by the ratio of successive rates."""
    model = speech_model(encoder_lr_scale=0.1)
    cfg = FairseqNAGConfig(lr=[0.1])
    optimizer = FairseqNAG(OmegaConf.structured(cfg), list(model.parameters()))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    message = "does not work with NAG, whose lr_old depends on the rate"
    with pytest.raises(InputError, match=message), scaled_encoder_lr(optimizer, 0.1):
        optimizer.step()


def test_composite_optimizers_are_supported_or_refused():
    parts = {name: adam([torch.nn.Parameter(torch.ones(2))]) for name in ("default", "encoder")}
    composite = SimpleNamespace(optimizer=SimpleNamespace(optimizers=parts), fp32_params=[])
    assert torch_optimizers(composite) == [part.optimizer for part in parts.values()]
    encoder = parts["encoder"].optimizer
    [parameter] = encoder.param_groups[0]["params"]
    parameter.grad = torch.ones(2)
    encoder.step()
    restart_encoder_moments(composite)
    assert parameter not in encoder.state
    encoder.param_groups[0]["weight_decay"] = 0.1
    with pytest.raises(InputError, match="would not protect the encoder from weight decay"):
        refuse_weight_decay(composite)
    message = "give its group encoder a learning rate of its own"
    with pytest.raises(InputError, match=message), scaled_encoder_lr(composite, 0.1):
        pass


def test_flattened_gradients_are_refused():
    flat = torch.nn.Parameter(torch.zeros(3))
    context = scaled_encoder_lr(adam([flat]), 0.1)
    with pytest.raises(InputError, match="fp16_no_flatten_grads"), context:
        pass


def test_weight_decay_with_fp16_copies_is_refused():
    """fairseq's FP16Optimizer replaces missing gradients by zeros in its 32-bit copies."""
    common = SimpleNamespace(bf16=True, fp16_scale_window=1)
    cfg = SimpleNamespace(optimizer=None, common=common)
    parameters = [torch.nn.Parameter(torch.zeros(3))]
    for decay in (0.1, 0.0):
        inner = adam(parameters)
        inner.param_groups[0]["weight_decay"] = decay
        copies = FP16Optimizer(cfg, parameters, inner, parameters)
        refused = pytest.raises(InputError, match="weight_decay=0") if decay else nullcontext()
        with refused:
            refuse_weight_decay(copies)
    refuse_weight_decay(adam(parameters))


def test_adam_state_of_fp16_copies_is_reset_when_the_encoder_unfreezes():
    """With gradients of one, bias correction makes Adam's first step equal the learning rate."""
    common = SimpleNamespace(bf16=True, fp16_scale_window=1)
    cfg = SimpleNamespace(optimizer=None, common=common)
    steps = {}
    for restarts in (False, True):
        parameter = torch.nn.Parameter(torch.zeros(3))
        inner = adam([parameter])
        copies = FP16Optimizer(cfg, [parameter], inner, [parameter])
        for _ in range(100):
            parameter.grad = torch.zeros(3)  # as fairseq fills in while frozen
            inner.step()
        if restarts:
            restart_encoder_moments(copies)
        before = parameter.detach().clone()
        parameter.grad = torch.ones(3)
        inner.step()
        steps[restarts] = float((before - parameter).detach().mean())
    assert steps[True] == pytest.approx(0.01, rel=1e-4)
    assert steps[False] != pytest.approx(0.01, rel=0.1)
    kept = adam([parameter])
    kept.optimizer.state["x"] = {}
    restart_encoder_moments(kept)  # no copies: frozen parameters have no gradients, so no steps
    assert "x" in kept.optimizer.state


def test_other_parameters_keep_their_adam_state_when_the_encoder_unfreezes():
    model = speech_model(freeze_encoder_updates=3)
    common = SimpleNamespace(bf16=True, fp16_scale_window=1)
    parameters = list(model.parameters())
    inner = adam(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    inner.step()
    cfg = SimpleNamespace(optimizer=None, common=common)
    restart_encoder_moments(FP16Optimizer(cfg, parameters, inner, parameters))
    encoder = set(model.encoder.audio_encoder.parameters())
    assert set(inner.optimizer.state) == set(parameters) - encoder
    assert not any(hasattr(p, "param_group") for p in speech_model().parameters())


def test_the_encoder_unfreezes_at_one_update_unless_it_is_always_frozen():
    for whole, updates, expected in ((False, 3, [3]), (True, 3, []), (False, 0, [])):
        freezing = Freezing(whole=whole, updates=updates)
        assert [update for update in range(6) if freezing.ends_at(update)] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze_encoder": True, "fresh_encoder_layers": 1}, r"model\.freeze_encoder=true would"),
        ({"freeze_encoder_layers": 2, "fresh_encoder_layers": 1}, "freeze_encoder_layers=2 would"),
        ({"freeze_encoder_layers": 3}, "at most the encoder's 2 layers"),
        ({"freeze_encoder_updates": -1}, "0 or more"),
        ({"encoder_lr_scale": 0.0}, "not above 0"),
        ({"encoder_lr_scale": math.nan}, "not above 0"),
        ({"fresh_encoder_layers": -1}, "must be at least 0"),
        ({"encoder_lr_scale": 0.1, "freeze_encoder": True}, "no effect"),
    ],
)
def test_contradictory_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        speech_model(**options)


def test_fresh_layers_above_frozen_ones_are_allowed():
    assert speech_model(freeze_encoder_layers=1, fresh_encoder_layers=1)
