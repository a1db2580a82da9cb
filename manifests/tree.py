"""Recordings in a tree of files: which files belong to one, and which are of another kind."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from manifests.annotations import SUFFIXES as ANNOTATIONS
from manifests.captions import SUFFIXES as CAPTIONS
from manifests.headers import SOUNDFILE_SUFFIXES
from manifests.text import composed

AUDIO_SUFFIXES = {".m4a", ".aac", ".wma", ".ac3", ".amr", ".caf", ".mka", ".weba", ".mp2", ".m4b"}
AUDIO_SUFFIXES |= {".au", ".w64", ".sph", ".wv", ".ape", *SOUNDFILE_SUFFIXES}
VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".flv", ".wmv"}
VIDEO_SUFFIXES |= {".3gp", ".ts", ".mts", ".m2ts", ".ogv", ".vob"}
OTHERS = {"", ".csv", ".tsv", ".json", ".jsonl", ".txt", ".md", ".xml", ".html", ".pdf", ".log"}
OTHERS |= {".jpg", ".jpeg", ".png", ".gif", ".nfo", ".yaml", ".zip"}
TEXT_SUFFIXES = (*ANNOTATIONS, *CAPTIONS, ".txt")  # those with times are preferred


@dataclass(frozen=True)
class Recording:
    """A recording in a folder.

    Attributes:
        audio: the audio file; may be a video file.
        video: the video file; None if there is none.
        texts: the folder's text files by name (NFC, lower-case suffixes).
    """

    audio: Path
    video: Path | None
    texts: Mapping[str, Path]


def recordings(folder: Path) -> Iterator[Recording]:
    """Every recording under a folder, sorted."""
    for named, texts in _folders(folder):
        for paths in named.values():
            videos = [p for p in paths if p.suffix.lower() in VIDEO_SUFFIXES]
            audio_files = [p for p in paths if p.suffix.lower() in AUDIO_SUFFIXES]
            yield Recording((audio_files or videos)[0], videos[0] if videos else None, texts)
            # A third file of the same name is reported as a duplicate.
            for path in [*audio_files[1:], *videos[1:]]:
                yield Recording(path, path if path in videos else None, texts)


def without_recording(folder: Path) -> list[Path]:
    """Annotations and subtitles under a folder that are named after no recording beside them."""
    return [
        path
        for named, texts in _folders(folder)
        for name, path in texts.items()
        if not name.endswith(".txt") and _stem(name, named) is None
    ]


def _folders(folder: Path) -> Iterator[tuple[dict[str, list[Path]], dict[str, Path]]]:
    """Of each folder, the audio and video files by stem and the text files by name."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not _loops(parent, f))
        named: dict[str, list[Path]] = {}
        texts: dict[str, Path] = {}
        for path in (Path(parent, name) for name in sorted(files) if not name.startswith(".")):
            suffix = path.suffix.lower()
            if suffix in AUDIO_SUFFIXES | VIDEO_SUFFIXES:
                named.setdefault(composed(path.stem), []).append(path)
            elif suffix in TEXT_SUFFIXES:
                texts[composed(path.stem) + suffix] = path
        yield named, _in_case_of_recordings(texts, named)


def _in_case_of_recordings(texts: dict[str, Path], stems: Collection[str]) -> dict[str, Path]:
    """Rename the texts of recordings that are written in another case: ``TALK.WAV``."""
    folded = {stem.casefold(): stem for stem in stems}
    renamed: dict[str, Path] = {}
    for name, path in texts.items():
        stem = None if _stem(name, stems) else _stem(name.casefold(), folded)
        renamed[folded[stem] + name.casefold()[len(stem) :] if stem else name] = path
    return renamed


def _stem(text: str, stems: Collection[str]) -> str | None:
    """The recording that a text's name is of: talk.srt, talk.de.srt or talk.mp4.srt; else None."""
    parts = text.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((name for name in names if name in stems), None)


def _loops(parent: str, name: str) -> bool:
    """Whether a folder is a link to one that contains it."""
    path, here = Path(parent, name), Path(parent).resolve()
    return path.is_symlink() and path.resolve() in (here, *here.parents)


def unknown_suffixes(folder: Path) -> Counter[str]:
    """How many files under a folder are of no known kind, by suffix."""
    known = AUDIO_SUFFIXES | VIDEO_SUFFIXES | {*TEXT_SUFFIXES, *OTHERS}
    names = (name for _, _, files in os.walk(folder) for name in files)
    suffixes = (Path(name).suffix.lower() for name in names if not name.startswith("."))
    return Counter(suffix for suffix in suffixes if suffix not in known)
