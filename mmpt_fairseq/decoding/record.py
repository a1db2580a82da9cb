"""A record of how a split was decoded and with which checkpoint, saved next to the hypotheses.

fairseq's ``generate-<split>.txt`` contains neither, so its scores could not be attributed.
"""

import json
import os
from pathlib import Path

from fairseq.dataclass import FairseqDataclass

from mmpt_fairseq.fingerprint import fingerprint


def decoding_models(checkpoint: str | Path, search: dict) -> list[Path]:
    """Checkpoint paths used in a decode: the model and, if ``search`` has one, the language model.

    For an ensemble the model's entry is not the path of a file.
    """
    return [Path(path) for path in (checkpoint, search.get("lm_path")) if path]


def write_record(cfg: FairseqDataclass, generation: object) -> None:
    """Write ``generate-<split>.json`` to the folder where fairseq saves the hypotheses.

    Args:
        cfg: the task's config; if ``results_path`` is None nothing is written.
        generation: fairseq's generation options, a config or a namespace.
    """
    if not cfg.results_path or not cfg.decodes_with:  # or in a training's validation
        return
    names = ("beam", "nbest", "lenpen", "max_len_a", "max_len_b", "temperature")
    names += ("lm_path", "lm_weight", "unnormalized")
    task = {"data": os.path.abspath(cfg.data), "decoding": str(cfg.decoding)}
    if task["decoding"] == "joint":
        task["ctc_decoding_weight"] = cfg.ctc_decoding_weight
    search = {name: getattr(generation, name, None) for name in names}
    if search["lm_path"]:
        search["lm_path"] = os.path.abspath(search["lm_path"])
    models = decoding_models(cfg.decodes_with, search)
    record = {
        "task": task,
        "fingerprint": fingerprint(models) if all(path.is_file() for path in models) else None,
        "common_eval": {
            "path": os.path.abspath(cfg.decodes_with),
            "results_path": os.path.abspath(cfg.results_path),
        },
        "generation": search,
    }
    path = Path(cfg.results_path) / f"generate-{cfg.gen_subset}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
