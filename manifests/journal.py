"""What was found about each clip, appended to a file: work that a kill cannot undo.

The first line holds the settings, each further one a clip, the last one says that the shard is
whole. A line that was cut by a kill is dropped and its clip looked at again, so nothing is lost
and nothing is doubled.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from manifests.candidate import Candidate, Measured
from manifests.common import CorpusError

FOLDER = ".journal"
RESTART = "say --restart to look at the whole corpus again"


def journal_path(out: Path, rank: int, shards: int) -> Path:
    """The journal of one of ``shards`` workers."""
    return out / FOLDER / f"{rank}-of-{shards}.jsonl"


class Journal:
    """One shard's journal, open for appending in a ``with`` block.

    Args:
        path: the file; made if it is not there.
        settings: what must be the same for its lines to hold.

    Raises:
        CorpusError: the file was written with other settings, or is being written.
    """

    def __init__(self, path: Path, settings: dict) -> None:
        self.path, self._settings = path, settings

    def __enter__(self) -> Journal:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b")
        try:
            self._begin()
        except CorpusError:
            self._file.close()
            raise
        return self

    def _begin(self) -> None:
        """Drop a line that was cut; see that the settings are those of the lines before."""
        _lock(self._file, self.path)
        end = _whole_lines(self.path)
        if end:
            with self.path.open(encoding="ascii") as file:
                stored = json.loads(file.readline()).get("settings", {})
            _compare(self.path, stored, self._settings)
        self._file.truncate(end)
        if not end:
            self._append([{"settings": self._settings}])

    def __exit__(self, *_) -> None:
        self._file.close()

    def remaining(
        self, candidates: Iterable[tuple[int, Candidate]]
    ) -> Iterator[tuple[int, Candidate]]:
        """Those of this shard's candidates that are not in the journal yet.

        Raises:
            CorpusError: the corpus does not offer what it offered when the journal was begun.
        """
        changed = f"the corpus has changed since {self.path} was begun; {RESTART}"
        known, whole = read_entries(self.path), False
        for place, candidate in candidates:
            entry = next(known, None)
            if entry is not None and "clips" in entry:
                entry, whole = None, True
            if entry is None and whole:
                raise CorpusError(changed)
            if entry is None:
                yield place, candidate
            elif (entry["n"], entry["id"], entry["split"]) != (
                place,
                candidate.id,
                candidate.split,
            ):
                raise CorpusError(changed)
        if any("clips" not in entry for entry in known):
            raise CorpusError(changed)

    def write(self, places: list[int], candidates: list[Candidate], found: list[Measured]) -> None:
        """Append what was found; whole on disk, for this process, when it returns."""
        entries = zip(places, candidates, found, strict=True)
        self._append(_entry(*entry) for entry in entries)

    def finish(self, clips: int) -> None:
        """Mark the shard as whole."""
        if not is_whole(self.path):
            self._append([{"clips": clips}])
            os.fsync(self._file.fileno())

    def _append(self, entries: Iterable[dict]) -> None:
        # ASCII, because file names need not be UTF-8: JSON's escapes bring any of them back.
        self._file.write("".join(json.dumps(e) + "\n" for e in entries).encode("ascii"))
        self._file.flush()


def _entry(place: int, candidate: Candidate, found: Measured) -> dict:
    entry = {
        "n": place,
        "id": candidate.id,
        "split": candidate.split,
        "path": candidate.audio,
        "source": candidate.source,
    }
    if found.reason:
        return {**entry, "reason": found.reason, "detail": found.detail}
    text = {} if candidate.text is None else {"tgt_text": candidate.text}
    return {**entry, "samples": found.samples, "row": {**candidate.columns, **text, **found.row}}


def read_entries(path: Path) -> Iterator[dict]:
    """The lines after the settings."""
    with path.open(encoding="ascii") as file:
        next(file, None)
        for line in file:
            if not line.endswith("\n"):
                return
            yield json.loads(line)


def is_whole(path: Path) -> bool:
    """Whether the shard's last clip is in the journal."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        tail = file.read()
    return tail.endswith(b"}\n") and tail.splitlines()[-1].startswith(b'{"clips":')


def _lock(file: BinaryIO, path: Path) -> None:
    """For as long as the file is open; some network file systems know no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CorpusError(f"another process writes {path}; wait for it, or end it") from None
    except OSError:
        pass


def _whole_lines(path: Path) -> int:
    """Bytes of the file up to the end of its last line that can be read."""
    if not path.is_file():
        return 0
    end = 0
    with path.open("rb") as file:
        for line in file:
            try:
                json.loads(line.decode("ascii"))
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            end += len(line)
    return end


def _compare(path: Path, stored: dict, settings: dict) -> None:
    names = sorted(k for k in stored | settings if stored.get(k) != settings.get(k))
    if names:
        differ = ", ".join(f"{k} {stored.get(k)} there, {settings.get(k)} here" for k in names)
        raise CorpusError(f"{path} was begun with other settings ({differ}); {RESTART}")
