"""Configs that fairseq checks before a training starts: faults in one sentence."""

import difflib
import logging

import omegaconf
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass import utils as dataclass_utils

from mmpt_fairseq.errors import leave

logger = logging.getLogger(__name__)

_fairseq_merge = dataclass_utils.merge_with_parent


def _merge_or_exit(dc: FairseqDataclass, cfg: omegaconf.DictConfig, *args, **kwargs):
    """fairseq's checking of a part's config against its dataclass, which ends in a traceback."""
    try:
        merged = _fairseq_merge(dc, cfg, *args, **kwargs)
    except omegaconf.errors.OmegaConfBaseException as error:
        part, key = cfg.get("_name"), error.full_key
        remedy = f" ({str(error.msg).splitlines()[0]}); correct it"
        if isinstance(error, omegaconf.errors.ConfigKeyError):
            near = difflib.get_close_matches(str(key), dc.__dataclass_fields__, n=1)
            remedy = f"; did you mean {near[0]}?" if near else "; leave it out"
            leave(f"{part} has no key {key}{remedy}")
        leave(f"{part} cannot take its {key}{remedy}")
    _check_cosine(merged)
    return merged


def _check_cosine(cfg: omegaconf.DictConfig) -> None:
    """The schedule divides by the updates that are left after its warm-up."""
    cosine = cfg.get("_name") == "cosine" and cfg.lr_period_updates <= 0
    if cosine and 0 < cfg.max_update < cfg.warmup_updates:
        sentence = "all %d updates lie in the warm-up of %d; set lr_scheduler.warmup_updates lower"
        logger.warning(sentence, cfg.max_update, cfg.warmup_updates)
    if cosine and cfg.max_update == cfg.warmup_updates:
        leave(
            f"optimization.max_update={cfg.max_update} ends with the warm-up; set "
            "lr_scheduler.warmup_updates lower"
        )


# Where fairseq checks every part before a training starts.
dataclass_utils.merge_with_parent = _merge_or_exit
