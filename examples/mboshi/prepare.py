"""Manifests for the real-speech example: Mboshi, GRID, LibriSpeech and ARCTIC as released.

Text: HTML entities decoded, Unicode NFC, runs of white space made one space; rows whose text is
empty after that are left out of the labelled manifests. Clips that cannot be read are left out.
Everything left out is counted and written to ``skipped.tsv``.
"""

import csv
import html
import sys
from collections.abc import Iterable
from pathlib import Path

from manifests.common import parallel_map
from manifests.vocabulary import build_vocabulary
from mmpt_fairseq.data.audio import num_frames, read_waveform
from mmpt_fairseq.data.manifest import write_manifest
from mmpt_fairseq.errors import InputError, UnreadableClip
from mmpt_fairseq.report.scores import normalise_text

GRID_VALID = 50  # clips of GRID held out of pre-training
MBOSHI_VALID = 100  # training utterances held out for validation; dev is only decoded


def prepare(data: Path, out: Path, minutes: float, jobs: int = 2) -> dict[str, int]:
    """Write ``pretrain``, ``st`` and ``asr`` under ``out``; returns rows per manifest.

    Args:
        data: holds ``grid``, ``mboshi``, ``arctic`` and ``librispeech``.
        minutes: of Mboshi transcripts to fine-tune on, an even sample of the training split.
    """
    mboshi = {split: _mboshi(data / "mboshi", split) for split in ("train", "dev")}
    grid = _grid(data / "grid")
    plain = [
        {"id": path.stem, "audio": str(path.resolve()), "speaker": path.stem.split("-")[0]}
        for folder in ("librispeech/train-clean-100", "arctic/audio")
        for path in sorted((data / folder).rglob("*.ogg"))
    ]
    rows = [*grid, *plain, *mboshi["train"], *mboshi["dev"]]
    measured = parallel_map(measure, rows, jobs, "measuring")
    faults = [(row["id"], row["fault"]) for row in measured if "fault" in row]
    good = {row["id"]: row for row in measured if "fault" not in row}
    counts = {}

    def write(name: str, chosen: Iterable[dict]) -> None:
        usable = [{**good[row["id"]], **row} for row in chosen if row["id"] in good]
        counts[name] = write_manifest(out / f"{name}.tsv", usable)

    unlabelled = [*grid[GRID_VALID:], *plain, *mboshi["train"]]
    write("pretrain/train", ({**r, "src_text": "", "tgt_text": ""} for r in unlabelled))
    write("pretrain/valid", grid[:GRID_VALID])
    for task, column in (("st", "french"), ("asr", "mboshi")):
        labelled = {k: _label(v, column, good, faults) for k, v in mboshi.items()}
        step = len(labelled["train"]) // MBOSHI_VALID
        valid = labelled["train"][::step][:MBOSHI_VALID]
        held = {row["id"] for row in valid}
        train = [row for row in labelled["train"] if row["id"] not in held]
        if task == "asr":
            train = _sample(train, minutes)
        for split, chosen in (("train", train), ("valid", valid), ("dev", labelled["dev"])):
            counts[f"{task}/{split}"] = write_manifest(out / task / f"{split}.tsv", chosen)
    build_vocabulary(out / "st", "unigram", 1000)
    build_vocabulary(out / "asr", "char")
    lines = [f"{name}\t{fault}\n" for name, fault in faults]
    (out / "skipped.tsv").write_text("id\treason\n" + "".join(lines), encoding="utf-8")
    print(f"{len(faults)} rows left out, see {out / 'skipped.tsv'}", file=sys.stderr)
    return counts


def measure(row: dict) -> dict:
    """A row with ``n_frames``, counted by decoding; or with ``fault``."""
    try:
        frames = num_frames(len(read_waveform(row["audio"])))
    except UnreadableClip as error:
        return {"id": row["id"], "fault": str(error)}
    return {**row, "n_frames": frames}


def _grid(folder: Path) -> list[dict]:
    """GRID's clips: 75 pictures each, sound and picture in one file."""
    return [
        {
            "id": row["id"],
            "audio": str((folder / row["video"]).resolve()),
            "video": str((folder / row["video"]).resolve()),
            "video_frames": 75,
            "speaker": row["speaker"],
        }
        for row in _table(folder / "clips.tsv")
    ]


def _mboshi(folder: Path, split: str) -> list[dict]:
    """Utterances with both texts, under names that are no manifest's columns yet."""
    return [
        {
            "id": row["id"],
            "audio": str((folder / row["audio"]).resolve()),
            "speaker": row["speaker"],
            "src_text": normalise_text(html.unescape(row["mboshi"])),
            "tgt_text": normalise_text(html.unescape(row["french"])),
            "src_lang": "mdw",
        }
        for row in _table(folder / f"{split}.tsv")
    ]


def _label(rows: list[dict], column: str, good: dict, faults: list) -> list[dict]:
    """Rows with the text of one task as target; empty ones go to ``faults``."""
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
    """Every k-th row, so many that they last about ``minutes``."""
    frames = sum(row["n_frames"] for row in rows)
    step = max(1.0, frames / (minutes * 6000))
    return [rows[int(i * step)] for i in range(int(len(rows) / step))]


def _table(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise InputError(f"there is no {path}; --data must name the folder that holds the corpora")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
