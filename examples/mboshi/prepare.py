"""Prepare the manifests of the real-speech example from Mboshi, GRID, LibriSpeech and ARCTIC.

    python -m examples.mboshi.prepare --data DIR --out runs/mboshi/manifests

README.md describes the layout of DIR.

Text: HTML entities decoded, Unicode NFC, whitespace collapsed; rows whose text is empty after that
are left out of the labelled manifests. Unreadable clips are left out. Everything left out is listed
in ``skipped.tsv``; ``counts.json`` holds statistics of the rest. Filterbanks are cached in
``features.zip``.
"""

import argparse
import html
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from examples.corpora import grid_clips, measure, read_table, speech_clips
from examples.mboshi.counts import count_texts, format_counts, too_long_for_ctc
from examples.mboshi.s2t_conformer import write_data_config
from manifests.common import atomic_path, parallel_map
from manifests.errors import command_line
from manifests.features import cache_features
from manifests.vocabulary import build_vocabulary
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.scoring import normalise_text

GRID_VALID = 50  # clips of GRID held out of pre-training
MBOSHI_VALID = 100  # training utterances held out for validation; dev is used only for decoding
TASKS = {"st": "french", "asr_few": "mboshi", "asr_all": "mboshi"}


def prepare(
    data: Path, out: Path, minutes: float, kind: str = "char", size: int = 1000, jobs: int = 2
) -> dict:
    """Write ``pretrain``, ``st``, ``asr_few`` and ``asr_all`` under ``out``; return the counts.

    Args:
        data: folder of ``grid``, ``mboshi``, ``arctic`` and ``librispeech``.
        minutes: of Mboshi transcripts in ``asr_few``, evenly sampled from the training split.
        kind, size: vocabulary of the translations; that of the transcripts is of characters.
    """
    tables = {split: read_table(data / "mboshi" / f"{split}.tsv") for split in ("train", "dev")}
    mboshi = {split: _mboshi(data / "mboshi", rows) for split, rows in tables.items()}
    grid, plain = grid_clips(data / "grid"), speech_clips(data)
    rows = [*grid, *plain, *mboshi["train"], *mboshi["dev"]]
    measured = parallel_map(measure, rows, jobs, "measuring")
    faults = [(row["id"], row["fault"]) for row in measured if "fault" in row]
    good = {row["id"]: row for row in measured if "fault" not in row}

    held_out = _held_out(grid, GRID_VALID)
    unlabelled = [*grid[held_out:], *plain, *mboshi["train"]]
    _write(
        out / "pretrain/train.tsv",
        ({**r, "src_text": "", "tgt_text": ""} for r in unlabelled),
        good,
    )
    _write(out / "pretrain/valid.tsv", grid[:held_out], good)
    for task, column in TASKS.items():
        labelled = {split: _label(rows, column, good, faults) for split, rows in mboshi.items()}
        held_out = _held_out(labelled["train"], MBOSHI_VALID)
        valid = labelled["train"][:: len(labelled["train"]) // held_out][:held_out]
        valid_ids = {row["id"] for row in valid}
        train = [row for row in labelled["train"] if row["id"] not in valid_ids]
        if task == "asr_few":
            train = _sample(train, minutes)
        for split, chosen in (("train", train), ("valid", valid), ("dev", labelled["dev"])):
            write_manifest(out / task / f"{split}.tsv", chosen)
    faults = list(dict.fromkeys(faults))
    lines = [f"{name}\t{fault}\n" for name, fault in faults]
    (out / "skipped.tsv").write_text("id\treason\n" + "".join(lines), encoding="utf-8")
    cache_features(out / "features.zip", [out / "pretrain", *(out / t for t in TASKS)], jobs=jobs)
    vocabularies = {}
    for task in TASKS:
        options = (kind, size) if task == "st" else ("char", size)
        vocabularies[f"{task}, {options[0]}"] = build_vocabulary(out / task, *options)
    for task in ("asr_few", "asr_all"):
        write_data_config(out / task)
    counts = {**_measures(out), "vocabularies": vocabularies, "left out": len(faults)}
    counts["texts"] = {
        f"{split}, {column}": count_texts(row[column] for row in rows)
        for split, rows in tables.items()
        for column in ("mboshi", "french")
    }
    with atomic_path(out / "counts.json") as partial:
        partial.write_text(json.dumps(counts, indent=1, ensure_ascii=False), encoding="utf-8")
    return counts


def _held_out(rows: list, most: int) -> int:
    """How many to validate on: a tenth at most."""
    return min(most, max(1, len(rows) // 10))


def _write(path: Path, chosen: Iterable[dict], good: dict[str, dict]) -> None:
    """Write the rows whose clip is readable, with their ``n_frames``."""
    write_manifest(path, [{**good[row["id"]], **row} for row in chosen if row["id"] in good])


def _measures(out: Path) -> dict[str, dict[str, float]]:
    """Numbers of rows, minutes and targets too long for CTC of every manifest."""
    rows, minutes, long = {}, {}, {}
    for folder in ("pretrain", *TASKS):
        for path in sorted((out / folder).glob("*.tsv")):
            name, manifest = f"{folder}/{path.stem}", Manifest(path)
            rows[name] = len(manifest)
            minutes[name] = round(int(manifest.n_frames.sum()) / 6000, 1)
            if folder in TASKS:
                long[name] = too_long_for_ctc(out / folder, path.stem)
    return {"rows": rows, "minutes": minutes, "too long for CTC": long}


def _mboshi(folder: Path, rows: list[dict[str, str]]) -> list[dict]:
    """Mboshi rows: the transcript as ``src_text``, the French translation as ``tgt_text``."""
    return [
        {
            "id": row["id"],
            "audio": str((folder / row["audio"]).resolve()),
            "speaker": row["speaker"],
            "src_text": normalise_text(html.unescape(row["mboshi"])),
            "tgt_text": normalise_text(html.unescape(row["french"])),
            "src_lang": "mdw",
        }
        for row in rows
    ]


def _label(rows: list[dict], column: str, good: dict, faults: list) -> list[dict]:
    """Rows with a task's text as target; those with an empty text are added to ``faults``."""
    labelled = []
    for row in rows:
        text = row["tgt_text"] if column == "french" else row["src_text"]
        if row["id"] in good and text:
            language = "fr" if column == "french" else "mdw"
            labelled.append({**good[row["id"]], "tgt_text": text, "tgt_lang": language})
        elif row["id"] in good:
            faults.append((row["id"], f"empty {column}"))
    return labelled


def _sample(rows: list[dict], minutes: float) -> list[dict]:
    """Every k-th row, with k such that their duration is about ``minutes``."""
    frames = sum(row["n_frames"] for row in rows)
    step = max(1.0, frames / (minutes * 6000))
    return [rows[int(i * step)] for i in range(int(len(rows) / step))]


def main() -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.mboshi.prepare", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0, help="of transcripts in asr_few")
    parser.add_argument(
        "--kind", choices=["char", "unigram"], default="char", help="vocabulary of the translations"
    )
    parser.add_argument("--size", type=int, default=1000, help="its size, unless --kind char")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="worker processes")
    args = parser.parse_args()
    with command_line():
        counts = prepare(args.data, args.out, args.minutes, args.kind, args.size, args.jobs)
    print(format_counts(counts), file=sys.stderr)


if __name__ == "__main__":
    main()
