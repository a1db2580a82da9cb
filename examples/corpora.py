"""The real corpora that several examples read, as rows of manifests."""

import csv
from pathlib import Path

from manifests.errors import InputError, UnreadableClip
from manifests.headers import is_soundfile
from mmpt_fairseq.data.audio import num_frames
from mmpt_fairseq.data.waveform import read_waveform

# Read speech, without its text; any folders below, as LibriSpeech's speakers and chapters.
SPEECH = ("librispeech/train-clean-100", "arctic/audio")
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
    """GRID's clips of a talking face: sound and pictures in one file.

    Raises:
        InputError: there is no ``clips.tsv``, or no clip in it.
    """
    rows = read_table(folder / "clips.tsv")
    if not rows:
        raise InputError(f"{folder / 'clips.tsv'} names no clip")
    return [
        {
            "id": row["id"],
            "audio": str((folder / row["video"]).resolve()),
            "video": str((folder / row["video"]).resolve()),
            "video_frames": GRID_PICTURES,
            "speaker": row["speaker"],
        }
        for row in rows
    ]


def grid_words(folder: Path) -> dict[str, str]:
    """What is said in each of GRID's clips, and when, as a manifest's ``segments``; no silence."""
    return {
        row["id"]: ";".join(x for x in row["words"].split() if not x.startswith("sil:"))
        for row in read_table(folder / "clips.tsv")
    }


def recordings(folder: Path) -> list[Path]:
    """Every sound under a folder, sorted; of several with one name the first alone.

    Raises:
        InputError: there is none.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if is_soundfile(str(path)):
            found.setdefault(path.stem, path)
    if not found:
        raise InputError(
            f"there is no flac, ogg or wav under {folder}; how --data must lie: "
            "examples/mboshi/README.md"
        )
    return list(found.values())


def speech_clips(data: Path) -> list[dict]:
    """LibriSpeech and ARCTIC under ``data``: read speech, without its text."""
    return [
        {"id": path.stem, "audio": str(path.resolve()), "speaker": path.stem.split("-")[0]}
        for folder in SPEECH
        for path in recordings(data / folder)
    ]


def measure(row: dict) -> dict:
    """A row with ``n_frames``, counted by decoding; or with ``fault``."""
    try:
        frames = num_frames(len(read_waveform(row["audio"])))
    except UnreadableClip as error:
        return {"id": row["id"], "fault": str(error)}
    return {**row, "n_frames": frames}
