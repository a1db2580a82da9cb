"""Manifest rows of the real corpora that several examples use."""

import csv
from pathlib import Path

from manifests.errors import InputError, UnreadableClip
from manifests.headers import is_soundfile
from mmpt_fairseq.data.audio import num_frames
from mmpt_fairseq.data.waveform import read_waveform

# Read speech, used without its text; searched recursively (LibriSpeech: speakers and chapters).
SPEECH = ("librispeech/train-clean-100", "arctic/audio")
GRID_FRAMES = 75  # video frames in every clip


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a TSV with a header.

    Raises:
        InputError: the file does not exist.
    """
    if not path.is_file():
        raise InputError(f"there is no {path}; --data must name the folder of the corpora")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def grid_clips(folder: Path) -> list[dict]:
    """GRID's clips of a talking face: audio and video in one file.

    Raises:
        InputError: ``clips.tsv`` is missing or lists no clip.
    """
    rows = read_table(folder / "clips.tsv")
    if not rows:
        raise InputError(f"{folder / 'clips.tsv'} lists no clip")
    return [
        {
            "id": row["id"],
            "audio": str((folder / row["video"]).resolve()),
            "video": str((folder / row["video"]).resolve()),
            "video_frames": GRID_FRAMES,
            "speaker": row["speaker"],
        }
        for row in rows
    ]


def grid_words(folder: Path) -> dict[str, str]:
    """Time-aligned words of each GRID clip as a manifest's ``segments``, without silences."""
    return {
        row["id"]: ";".join(x for x in row["words"].split() if not x.startswith("sil:"))
        for row in read_table(folder / "clips.tsv")
    }


def recordings(folder: Path) -> list[Path]:
    """All audio files under a folder, sorted; only the first of those with the same stem.

    Raises:
        InputError: there are none.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if is_soundfile(str(path)):
            found.setdefault(path.stem, path)
    if not found:
        raise InputError(
            f"there is no flac, ogg or wav file under {folder}; for the layout of --data see "
            "examples/mboshi/README.md"
        )
    return list(found.values())


def speech_clips(data: Path) -> list[dict]:
    """Rows of LibriSpeech and ARCTIC under ``data``: read speech, without its text."""
    return [
        {"id": path.stem, "audio": str(path.resolve()), "speaker": path.stem.split("-")[0]}
        for folder in SPEECH
        for path in recordings(data / folder)
    ]


def measure(row: dict) -> dict:
    """The row with ``n_frames``, counted by decoding; or its ``id`` and ``fault`` if unreadable."""
    try:
        frames = num_frames(len(read_waveform(row["audio"])))
    except UnreadableClip as error:
        return {"id": row["id"], "fault": str(error)}
    return {**row, "n_frames": frames}
