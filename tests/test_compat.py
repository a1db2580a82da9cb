"""Differences between configs, in every form in which fairseq stores them; optimizers; saving."""

import signal
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.dataclass.configs import FairseqConfig
from fairseq.optim.amp_optimizer import AMPOptimizer
from omegaconf import OmegaConf

from mmpt_fairseq.compat import checkpoints
from mmpt_fairseq.compat.configs import PARTS, check_names, differences, plain, saved_config
from tests.commands import ROOT

SETTINGS = {
    "model": {"_name": "mmpt_speech_to_text", "dropout": 0.1},
    "optimization": {"lr": [0.001], "max_update": 10},
    "dataset": {"num_workers": 1},
    "common": {"seed": 1},
}


def config(part: str = "", **changed) -> OmegaConf:
    settings = {name: dict(values) for name, values in SETTINGS.items()}
    if part:
        settings[part] |= changed
    return OmegaConf.create(settings)


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("as_container", [True, False])
def test_differences_from_a_checkpoints_config(tmp_path, new_format, as_container):
    """As fairseq writes it and as it used to: an OmegaConf object, torch's legacy format."""
    cfg = config()
    kept = OmegaConf.to_container(cfg) if as_container else cfg
    path = tmp_path / "a.pt"
    torch.save({"cfg": kept}, path, _use_new_zipfile_serialization=new_format)
    theirs = saved_config(str(path))
    assert differences(plain(config()), theirs, PARTS) == ""
    other = plain(config("optimization", lr=[0.002]))
    assert differences(other, theirs, PARTS) == "optimization.lr=[0.002] (checkpoint: [0.001])"
    assert differences(plain(config("dataset", num_workers=4)), theirs, PARTS) == ""


def test_config_parts_may_be_namespaces_or_names(tmp_path):
    """fairseq stores models without a dataclass, and all of an old config, as a namespace."""
    cfg = config()
    cfg._set_flag("allow_objects", True)
    cfg.model = Namespace(_name="s2t_conformer", dropout=0.1)
    cfg.criterion = "cross_entropy"
    check_names(cfg)
    torch.save({"cfg": {"model": Namespace(_name="s2t_conformer", dropout=0.2)}}, tmp_path / "a.pt")
    theirs = saved_config(str(tmp_path / "a.pt"))
    assert differences(plain(cfg), theirs, PARTS) == "model.dropout=0.1 (checkpoint: 0.2)"
    torch.save({"args": Namespace(arch="s2t_conformer"), "cfg": None}, tmp_path / "old.pt")
    assert saved_config(str(tmp_path / "old.pt")) == {}
    cfg.criterion = "cross_entropi"
    with pytest.raises(SystemExit, match="cross_entropi is not registered; did you mean"):
        check_names(cfg)


@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_mixed_precision_does_not_change_the_steps(scale):
    """Gradients are divided by the loss scale once, whatever it is."""
    cfg = OmegaConf.structured(FairseqConfig)
    cfg.optimizer = {"_name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": [0.1]}
    gradients = torch.tensor([1.0, 1e-2, 1e-4])
    weights = torch.nn.Parameter(torch.zeros(3))
    optimizer = AMPOptimizer.build_optimizer(cfg, [weights])
    optimizer._grad_scaler = torch.amp.GradScaler("cpu", init_scale=scale)  # fairseq's needs a GPU
    for _ in range(2):
        optimizer.zero_grad()
        optimizer.backward((weights * gradients).sum())
        assert optimizer.clip_grad_norm(0.0).item() == pytest.approx(gradients.norm().item())
        optimizer.step()
    torch.testing.assert_close(weights.detach(), -0.2 * gradients)
    optimizer.backward((weights * float("inf")).sum())
    optimizer.clip_grad_norm(0.0)
    optimizer.step()
    torch.testing.assert_close(weights.detach(), -0.2 * gradients)


@pytest.mark.parametrize("failures", [1, 9])
def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch, failures):
    """As on a disk that is full, for a moment or for good."""
    path, save, attempts = tmp_path / "a.pt", torch.save, []
    checkpoint_utils.torch_persistent_save({"update": 1}, str(path))

    def full(state: dict, temporary: str) -> None:
        attempts.append(temporary)
        save(state, temporary)
        if len(attempts) <= failures:
            with open(temporary, "r+b") as file:
                file.truncate(100)
            raise OSError(28, "No space left on device", temporary)

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(checkpoints, "SAVING_PAUSE", 0)
    if failures == 1:
        checkpoint_utils.torch_persistent_save({"update": 2}, str(path))
    else:
        with pytest.raises(SystemExit, match=r"cannot write .*a\.pt \(No space left on device\)"):
            checkpoint_utils.torch_persistent_save({"update": 2}, str(path))
    assert torch.load(path) == {"update": 2 if failures == 1 else 1}
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_while_saving_is_not_lost(tmp_path):
    """Nor does it leave a damaged checkpoint: torch would turn it into an error of its own."""
    path, state, interrupted = tmp_path / "a.pt", {}, 0
    for i in range(200):
        state[str(i)] = torch.randn(20_000)
    checkpoint_utils.torch_persistent_save(state, str(path))

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for attempt in range(20):
            signal.setitimer(signal.ITIMER_REAL, 0.0005 * (attempt + 1))
            try:
                checkpoint_utils.torch_persistent_save(state, str(path))
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert torch.load(path).keys() == state.keys()
            assert list(tmp_path.iterdir()) == [path]
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted


def test_a_process_may_exit_while_batches_are_read_ahead():
    """As at the end of a training within an epoch; the thread is in torch's code all the time."""
    code = (
        "import time, torch, mmpt_fairseq\n"
        "from fairseq.data.iterators import BufferedIterator\n"
        "class Endless:\n"
        "    def __len__(self): return 10**9\n"
        "    def __iter__(self):\n"
        "        while True: yield torch.stack([torch.ones(1000).exp() for _ in range(9)])\n"
        "next(BufferedIterator(10**9, Endless()))\n"
        "time.sleep(0.1)\n"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
