"""A recogniser that needs no further training but whose output depends on its input."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import mmpt_fairseq
from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.transcription import SpeechModel


@pytest.fixture(scope="session")
def checkpoint(stages, tmp_path_factory) -> Path:
    """Stage 3's checkpoint with random weights: after two updates all outputs are the same."""
    state = load_checkpoint(stages / "finetuning" / "checkpoint_last.pt")
    torch.manual_seed(0)
    for tensor in state["model"].values():
        if tensor.dim() > 1:
            torch.nn.init.normal_(tensor, std=0.4)
    state["cfg"] = OmegaConf.to_container(state["cfg"], enum_to_str=True)
    # Random weights seldom predict the end of a sentence.
    state["cfg"]["task"]["max_target_positions"] = 31
    # A folder with nothing else in it: the checkpoint must suffice.
    path = tmp_path_factory.mktemp("alone") / "checkpoint.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def recogniser(checkpoint) -> SpeechModel:
    return mmpt_fairseq.load(checkpoint)


@pytest.fixture(scope="session")
def stage_1(stages) -> Path:
    return stages / "pretraining" / "checkpoint_last.pt"
