"""Kaldi data directories (https://kaldi-asr.org/doc/data_prep.html).

    python -m manifests.kaldi data OUT [--target-lang de]

A directory with ``wav.scp`` (recording, path) and optionally ``segments`` (utterance, recording,
start, end and, for multi-channel recordings, the channel; an end of -1 is the recording's end),
``text`` and ``utt2spk``; or a folder of such directories, each a split named after it.
``flac -c -d -s file.flac |`` is read as the file; other commands and archives (``.ark``) are left
out, as is one channel of several. The files are sorted, as Kaldi requires, so they are read in
step; only ``wav.scp`` is kept in memory, if there are ``segments``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from manifests.candidate import (
    BAD_ROW,
    LONGEST_WITH_TEXT,
    MISSING,
    NO_FILE,
    NO_TEXT,
    ONE_CHANNEL,
    Candidate,
)
from manifests.errors import InputError
from manifests.prepare import main
from manifests.recipe import Recipe
from manifests.text import clean, read_lines

_FLAC = re.compile(r"flac\s+(?:-\w+\s+)*(\S+\.flac)\s*\|")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--root", type=Path, default=Path(), help="what paths in wav.scp are relative to")
    add("--source-lang", default="")
    add("--target-lang", default="", help="language of text")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Utterances of every data directory, sorted."""
    if (args.corpus / "wav.scp").is_file():
        yield from directory_candidates(args.corpus, args)
        return
    for path in sorted(args.corpus.glob("*/wav.scp")):
        yield from directory_candidates(path.parent, args)


def directory_candidates(folder: Path, args: argparse.Namespace) -> Iterator[Candidate]:
    """Utterances of one data directory.

    Raises:
        InputError: a table is not sorted.
    """
    unknown = 0
    texts = Sorted(folder / "text") if (folder / "text").is_file() else None
    speakers = Sorted(folder / "utt2spk") if (folder / "utt2spk").is_file() else None
    languages = {"src_lang": args.source_lang, "tgt_lang": args.target_lang or args.source_lang}
    for part in _parts(folder, args.root.absolute()):
        text = texts.get(part.utterance) if texts else None
        fault = part.fault
        if texts and text is None:
            fault = fault or (NO_TEXT, f"not in {folder / 'text'}")
        speaker = speakers.get(part.utterance) if speakers else None
        unknown += bool(speakers) and speaker is None
        columns = {**languages, "speaker": speaker or ""}
        yield Candidate(
            id=part.utterance,
            split=folder.name,
            audio=part.audio,
            start=part.start,
            seconds=part.seconds,
            text=None if texts is None else clean(text or ""),
            source=part.audio,
            columns={name: value for name, value in columns.items() if value},
            fault=fault,
        )
    if unknown:
        print(f"{folder / 'utt2spk'} lacks {unknown} utterances: no speaker", file=sys.stderr)


@dataclass(frozen=True)
class Part:
    """The location of an utterance; ``seconds`` is None if it extends to the recording's end."""

    utterance: str
    audio: str
    start: float = 0.0
    seconds: float | None = None
    fault: tuple[str, str] | None = None


def _parts(folder: Path, root: Path) -> Iterator[Part]:
    """Lines of ``segments``, or of ``wav.scp`` if there is none."""
    if not (folder / "segments").is_file():
        for name, entry in read_pairs(folder / "wav.scp"):
            audio, fault = _path(entry, root)
            yield Part(name, audio, fault=fault)
        return
    recordings = dict(read_pairs(folder / "wav.scp"))
    for utterance, rest in read_pairs(folder / "segments"):
        yield _segment(utterance, rest.split(), recordings, root)


def _segment(utterance: str, cells: list[str], recordings: dict[str, str], root: Path) -> Part:
    """Parse a line as ``extract-segments`` does: recording, start, end, optionally a channel."""
    try:
        recording, start, end, *channel = cells
        start, end = float(start), float(end)
    except ValueError:
        return Part(utterance, "", fault=(BAD_ROW, "no recording, start and end in segments"))
    if recording not in recordings:
        return Part(utterance, recording, fault=(MISSING, "its recording is not in wav.scp"))
    audio, fault = _path(recordings[recording], root)
    if channel and not fault and _channels(audio) > 1:
        fault = (ONE_CHANNEL, f"channel {channel[0]}; write one file per channel first")
    return Part(utterance, audio, start, None if end == -1 else end - start, fault)


@lru_cache(maxsize=64)  # utterances of one recording follow each other
def _channels(path: str) -> int:
    """Number of channels by the file's header; 1 if unreadable, which is reported later."""
    import soundfile

    try:
        return soundfile.info(path).channels
    except (soundfile.LibsndfileError, RuntimeError):
        return 1


def _path(entry: str, root: Path) -> tuple[str, tuple[str, str] | None]:
    """The file that an entry of ``wav.scp`` names, or why it names none."""
    flac = _FLAC.fullmatch(entry)
    if flac:
        entry = flac[1]
    elif entry.endswith("|") or re.search(r"\.ark:\d+$", entry):
        return entry, (NO_FILE, "wav.scp names a command or an archive; write files first")
    return str(root / entry), None


def read_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """(first word, rest) of every line."""
    for line in read_lines(path):
        name, *rest = line.strip().split(maxsplit=1) or [""]
        if name:
            yield name, rest[0] if rest else ""


class Sorted:
    """Lookup in a sorted table by sorted keys: it is read in step and not kept in memory.

    Raises:
        InputError: the table is not sorted; a key that is too early would hide all others.
    """

    def __init__(self, path: Path) -> None:
        before = b""
        for key, _ in read_pairs(path):
            if _bytes(key) < before:
                raise InputError(f"{path} is not sorted at {key}; use LC_ALL=C sort")
            before = _bytes(key)
        self._path, self._pairs = path, read_pairs(path)
        self._wanted = ""
        self._advance()

    def _advance(self) -> None:
        """Go to the next line; after the last one the key is None."""
        self._key, self._value = next(self._pairs, (None, ""))

    def get(self, wanted: str) -> str | None:
        """The value of a key; None if the table lacks it.

        Raises:
            InputError: the keys asked for are not sorted.
        """
        if _bytes(wanted) < _bytes(self._wanted):
            raise InputError(
                f"{self._path.parent}: segments, or wav.scp without them, is not sorted at "
                f"{wanted}; use LC_ALL=C sort"
            )
        self._wanted = wanted
        while self._key is not None and _bytes(self._key) < _bytes(wanted):
            self._advance()
        return self._value if self._key == wanted else None


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


RECIPE = Recipe(
    name="kaldi",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    longest=LONGEST_WITH_TEXT,
    corpus="DATA_DIR",
)

if __name__ == "__main__":
    main(RECIPE)
