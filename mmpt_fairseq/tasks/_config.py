"""Options common to the configs of all tasks."""

from dataclasses import dataclass, field
from typing import List, Optional  # noqa: UP035 (what fairseq's argument parser understands)

from fairseq.dataclass import FairseqDataclass
from omegaconf import II


@dataclass
class TaskConfig(FairseqDataclass):
    """Options common to the configs of all tasks."""

    # By default fairseq builds batches once, seeded with the first epoch of the process: a resumed
    # run would continue with different batches.
    rebuild_batches: bool = field(
        default=True, metadata={"help": "regroup clips into batches in every epoch"}
    )
    try_largest_batch: bool = field(
        default=True,
        metadata={"help": "dry-run the most expensive batches before the first update"},
    )
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")
    decodes_with: Optional[str] = II("common_eval.path")
    save_dir: str = II("checkpoint.save_dir")
    restore_file: str = II("checkpoint.restore_file")
    checkpoint_suffix: str = II("checkpoint.checkpoint_suffix")
    continue_once: Optional[str] = II("checkpoint.continue_once")
    finetune_from_model: Optional[str] = II("checkpoint.finetune_from_model")
    reset_optimizer: bool = II("checkpoint.reset_optimizer")
    distributed_world_size: int = II("distributed_training.distributed_world_size")
    ddp_backend: str = II("distributed_training.ddp_backend")
    update_freq: List[int] = field(default=II("optimization.update_freq"))  # noqa: UP006 (as above)
    disable_validation: bool = II("dataset.disable_validation")
    max_valid_steps: Optional[int] = II("dataset.max_valid_steps")
    best_checkpoint_metric: str = II("checkpoint.best_checkpoint_metric")
    maximize_best_checkpoint_metric: bool = II("checkpoint.maximize_best_checkpoint_metric")
