"""An untrained fairseq language model for tests."""

from pathlib import Path

import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import BaseFairseqModel
from fairseq.tasks import setup_task

ARCHITECTURE = ["--arch", "transformer_lm", "--decoder-layers", "1", "--decoder-embed-dim", "16"]
ARCHITECTURE += ["--decoder-ffn-embed-dim", "32", "--decoder-attention-heads", "2"]


def untrained_language_model(data: Path, path: Path | None = None) -> BaseFairseqModel:
    """An untrained ``transformer_lm`` over ``data/dict.txt``; saved as by fairseq if asked."""
    parser = options.get_training_parser("language_modeling")
    settings = [str(data), "--task", "language_modeling", *ARCHITECTURE]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, settings))
    torch.manual_seed(5)
    model = setup_task(cfg.task).build_model(cfg.model).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5) if parameter.dim() > 1 else None
    if path is not None:
        state = {"cfg": cfg, "args": None, "model": model.state_dict(), "extra_state": {}}
        history = {"num_updates": 0, "optimizer_name": "FairseqAdam", "lr_scheduler_state": {}}
        torch.save({**state, "optimizer_history": [history]}, path)
    return model
