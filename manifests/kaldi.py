"""Kaldi data directories (https://kaldi-asr.org/doc/data_prep.html).

    python -m manifests.kaldi data OUT [--target-lang de]

A directory with ``wav.scp`` (recording, path) and, as far as there are, ``segments`` (utterance,
recording, start, end), ``text`` and ``utt2spk``; or a folder of such directories, each a split
named after it. ``flac -c -d -s file.flac |`` is read as the file; other commands and archives
(``.ark``) are left out. The files are sorted, as Kaldi demands, so that they are read side by side.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from manifests.candidate import NO_TEXT, UNREADABLE, Candidate
from manifests.common import CorpusError
from manifests.prepare import Recipe, main
from manifests.text import clean

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
    """Utterances of one data directory."""
    recordings = dict(read_pairs(folder / "wav.scp"))
    texts = Sorted(folder / "text") if (folder / "text").is_file() else None
    speakers = Sorted(folder / "utt2spk") if (folder / "utt2spk").is_file() else None
    languages = {"src_lang": args.source_lang, "tgt_lang": args.target_lang or args.source_lang}
    for utterance, recording, start, seconds in _utterances(folder, recordings):
        audio, fault = _path(recordings.get(recording), args.root)
        text = texts.get(utterance) if texts else None
        if texts and text is None:
            fault = fault or (NO_TEXT, f"not in {folder / 'text'}")
        speaker = speakers.get(utterance) if speakers else None
        columns = {**languages, "speaker": speaker or ""}
        yield Candidate(
            id=utterance,
            split=folder.name,
            audio=audio or recording,
            start=start,
            seconds=seconds,
            text=None if texts is None else clean(text or ""),
            source=audio or recording,
            columns={name: value for name, value in columns.items() if value},
            fault=fault,
        )


def _utterances(
    folder: Path, recordings: dict[str, str]
) -> Iterator[tuple[str, str, float, float | None]]:
    """(utterance, recording, start, seconds or None for all of it)."""
    segments = folder / "segments"
    if not segments.is_file():
        yield from ((name, name, 0.0, None) for name in recordings)
        return
    for utterance, rest in read_pairs(segments):
        try:
            recording, start, end = rest.split()
            start, end = float(start), float(end)
        except ValueError:
            raise CorpusError(
                f"{segments}: {utterance} is not followed by a recording, start and end"
            ) from None
        # A negative end is Kaldi's way to say the end of the recording.
        yield utterance, recording, start, None if end < 0 and not start else end - start


def _path(entry: str | None, root: Path) -> tuple[str, tuple[str, str] | None]:
    if entry is None:
        return "", (UNREADABLE, "its recording is not in wav.scp")
    flac = _FLAC.fullmatch(entry)
    if flac:
        entry = flac[1]
    elif entry.endswith("|") or re.search(r"\.ark:\d+$", entry):
        return entry, (UNREADABLE, "wav.scp names a command or an archive; write files first")
    return str(root.absolute() / entry), None


def read_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """(first word, rest) of every line."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line in file:
            name, *rest = line.strip().split(maxsplit=1) or [""]
            if name:
                yield name, rest[0] if rest else ""


class Sorted:
    """A sorted table that is read along with sorted questions, so that none of it is kept."""

    def __init__(self, path: Path) -> None:
        self._path, self._pairs = path, read_pairs(path)
        self._key, self._value = next(self._pairs, (None, ""))

    def get(self, wanted: str) -> str | None:
        """The value of a key; None where the table lacks it.

        Raises:
            CorpusError: the table is not sorted.
        """
        while self._key is not None and self._key.encode() < wanted.encode():
            before = self._key
            self._key, self._value = next(self._pairs, (None, ""))
            if self._key is not None and self._key.encode() < before.encode():
                raise CorpusError(f"{self._path} is not sorted at {self._key}; use LC_ALL=C sort")
        return self._value if self._key == wanted else None


RECIPE = Recipe(
    name="kaldi",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    longest=60.0,
    corpus="DATA_DIR",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
