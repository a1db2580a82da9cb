"""What was decoded, by which checkpoint and how: kept beside the hypotheses.

fairseq's ``generate-<split>.txt`` says none of it, and without it a score cannot be looked up.
"""

import json
import os
from pathlib import Path

from fairseq.dataclass import FairseqDataclass

from mmpt_fairseq.fingerprint import fingerprint


def decoding_models(checkpoint: str | Path, search: dict) -> list[Path]:
    """The files that decode together: the model's (no file's name, of an ensemble), a language
    model's where the ``search`` has one."""
    return [Path(path) for path in (checkpoint, search.get("lm_path")) if path]


def write_record(cfg: FairseqDataclass, generation: object) -> None:
    """Write ``generate-<split>.json`` where fairseq keeps the hypotheses, if it does.

    Args:
        cfg: the task's config; ``results_path`` None writes nothing.
        generation: fairseq's options of search, a config or a namespace.
    """
    if not cfg.results_path or not cfg.decodes_with:  # a training's validation keeps nothing
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
