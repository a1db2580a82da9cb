"""The real corpora that several examples read, as rows of manifests."""

import csv
from pathlib import Path

from mmpt_fairseq.data.audio import num_frames
from mmpt_fairseq.data.waveform import read_waveform
from mmpt_fairseq.errors import InputError, UnreadableClip

SPEECH = ("librispeech/train-clean-100", "arctic/audio")  # without text, without pictures
GRID_PICTURES = 75  # in every clip


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a TSV with a header.

    Raises:
        InputError: there is no such file.
    """
    if not path.is_file():
        raise InputError(f"there is no {path}; --data must name the folder that holds the corpora")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def grid_clips(folder: Path) -> list[dict]:
    """GRID's clips of a talking face: sound and pictures in one file."""
    return [
        {
            "id": row["id"],
            "audio": str((folder / row["video"]).resolve()),
            "video": str((folder / row["video"]).resolve()),
            "video_frames": GRID_PICTURES,
            "speaker": row["speaker"],
        }
        for row in read_table(folder / "clips.tsv")
    ]


def grid_words(folder: Path) -> dict[str, str]:
    """What is said in each of GRID's clips, and when, as a manifest's ``segments``; no silence."""
    return {
        row["id"]: ";".join(x for x in row["words"].split() if not x.startswith("sil:"))
        for row in read_table(folder / "clips.tsv")
    }


def speech_clips(data: Path) -> list[dict]:
    """LibriSpeech and ARCTIC under ``data``: read speech, without its text."""
    return [
        {"id": path.stem, "audio": str(path.resolve()), "speaker": path.stem.split("-")[0]}
        for folder in SPEECH
        for path in sorted((data / folder).rglob("*.ogg"))
    ]


def measure(row: dict) -> dict:
    """A row with ``n_frames``, counted by decoding; or with ``fault``."""
    try:
        frames = num_frames(len(read_waveform(row["audio"])))
    except UnreadableClip as error:
        return {"id": row["id"], "fault": str(error)}
    return {**row, "n_frames": frames}
