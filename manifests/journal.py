"""What was found about each clip, appended to a file: work that a kill cannot undo.

The first line holds the settings, each further one a clip, the last one says that the shard is
whole. A line that was cut by a kill is dropped and its clip looked at again, so nothing is lost
and nothing is doubled. So is a clip whose text, times or files have changed since; its new line
follows behind, and the last line of a clip is the one that holds.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from manifests.candidate import Candidate, Measured
from manifests.errors import InputError
from manifests.inspection import stamp_of

FOLDER = ".journal"
RESTART = "say --restart to look at the whole corpus again"


def journal_path(out: Path, rank: int, shards: int) -> Path:
    """The journal of one of ``shards`` workers."""
    return out / FOLDER / f"{rank}-of-{shards}.jsonl"


def content_key(candidate: Candidate) -> str:
    """Another key, another candidate: its text, its times, its paths or its columns."""
    return blake2b(repr(candidate).encode("utf-8"), digest_size=8).hexdigest()


class Journal:
    """One shard's journal, open for appending in a ``with`` block.

    Args:
        path: the file; made if it is not there.
        settings: what must be the same for its lines to hold.

    Attributes:
        changed: clips that were looked at again because they are not what they were.

    Raises:
        InputError: the file was written with other settings, or is being written.
    """

    def __init__(self, path: Path, settings: dict) -> None:
        self.path, self._settings, self.changed = path, settings, 0

    def __enter__(self) -> Journal:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b")
        try:
            self._begin()
        except InputError:
            self._file.close()
            raise
        return self

    def _begin(self) -> None:
        """Drop a line that was cut; see that the settings are those of the lines before."""
        _lock(self._file, self.path)
        self._end, self._again = _whole_lines(self.path)
        if next(read_entries(self.path), None) is None:
            self._end = 0  # nothing was found yet: other settings do no harm
        if self._end:
            compare_settings(self.path, read_settings(self.path), self._settings)
        self._file.truncate(self._end)
        if not self._end:
            self._append([{"settings": self._settings}])

    def __exit__(self, *_) -> None:
        self._file.close()

    def remaining(
        self, candidates: Iterable[tuple[int, Candidate, str]]
    ) -> Iterator[tuple[int, Candidate, str]]:
        """Those of this shard's candidates that are not in the journal, or not as they are now.

        Args:
            candidates: (place in the corpus, candidate, its key).

        Raises:
            InputError: the corpus does not offer the clips that it offered when the journal was
                begun.
        """
        changed = f"the corpus has changed since {self.path} was begun; {RESTART}"
        whole, known = is_whole(self.path), self._first_entries()
        for place, candidate, key in candidates:
            entry = next(known, None)
            if entry is None and whole:
                raise InputError(changed)
            if entry is None:
                yield place, candidate, key
                continue
            if (entry["n"], entry["id"], entry["split"]) != (place, candidate.id, candidate.split):
                raise InputError(changed)
            found = self._again.get(place, (entry["key"], entry["stamp"]))
            if found != (key, stamp_of(candidate)):
                self.changed += 1
                yield place, candidate, key
        if next(known, None) is not None:
            raise InputError(changed)

    def _first_entries(self) -> Iterator[dict]:
        """The first line of each clip, as the file was when it was opened."""
        highest = -1
        for entry in read_entries(self.path, self._end):
            if entry["n"] > highest:
                highest = entry["n"]
                yield entry

    def write(self, clips: Iterable[tuple[int, Candidate, str]], found: list[Measured]) -> None:
        """Append what was found; whole on disk, for this process, when it returns."""
        self._append(_entry(*clip, one) for clip, one in zip(clips, found, strict=True))

    def finish(self, clips: int, corpus: str) -> None:
        """Mark the shard as whole.

        Args:
            clips: of this shard.
            corpus: a digest of all that the corpus offers, to all shards.
        """
        end = {"clips": clips, "corpus": corpus}
        if read_end(self.path) != end:
            self._append([end])
            os.fsync(self._file.fileno())

    def _append(self, entries: Iterable[dict]) -> None:
        # ASCII, because file names need not be UTF-8: JSON's escapes bring any of them back.
        self._file.write("".join(json.dumps(e) + "\n" for e in entries).encode("ascii"))
        self._file.flush()


def _entry(place: int, candidate: Candidate, key: str, found: Measured) -> dict:
    entry = {
        "n": place,
        "id": candidate.id,
        "split": candidate.split,
        "key": key,
        "stamp": found.stamp,
        "path": candidate.audio,
        "source": candidate.source,
        "drawn": candidate.drawn,
    }
    if found.pieces:
        pieces = [_outcome(candidate, piece) for piece in found.pieces]
        return {**entry, "pieces": pieces, "last_drawn": candidate.last_drawn}
    return {**entry, **_outcome(candidate, found)}


def _outcome(candidate: Candidate, found: Measured) -> dict:
    if found.reason:
        return {"reason": found.reason, "detail": found.detail}
    text = {} if candidate.text is None else {"tgt_text": candidate.text}
    return {"samples": found.samples, "row": {**candidate.columns, **text, **found.row}}


def read_settings(path: Path) -> dict:
    """The first line; empty where it is not whole."""
    with path.open(encoding="ascii") as file:
        line = file.readline()
    return json.loads(line).get("settings", {}) if line.endswith("\n") else {}


def read_entries(path: Path, end: int | None = None) -> Iterator[dict]:
    """The lines of clips, those of the first ``end`` bytes alone where it is given."""
    place = 0
    with path.open("rb") as file:
        for line in file:
            place += len(line)
            if not line.endswith(b"\n") or (end is not None and place > end):
                return
            entry = json.loads(line)
            if "n" in entry:
                yield entry


def read_end(path: Path) -> dict | None:
    """The line that says that the shard's last clip is in the journal, if it is there."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 256))
        tail = file.read()
    last = tail.splitlines()[-1] if tail.endswith(b"}\n") else b""
    return json.loads(last) if last.startswith(b'{"clips":') else None


def is_whole(path: Path) -> bool:
    """Whether the shard's last clip is in the journal."""
    return read_end(path) is not None


def check_agreement(paths: Sequence[Path]) -> None:
    """See that all shards, which are whole, looked at the same corpus in the same way.

    Raises:
        InputError: names the ranks that did not.
    """
    for rank, path in enumerate(paths):
        remedy = f"run --rank {rank} again, with --restart"
        compare_settings(path, read_settings(path), read_settings(paths[0]), remedy)
    corpora = [read_end(path)["corpus"] for path in paths]
    if len(set(corpora)) > 1:
        last = max(range(len(paths)), key=lambda rank: paths[rank].stat().st_mtime_ns)
        others = [str(rank) for rank, corpus in enumerate(corpora) if corpus != corpora[last]]
        raise InputError(
            f"the corpus was not the same when --rank {last} and --rank {', '.join(others)} looked "
            "at it; run the latter again"
        )


def _lock(file: BinaryIO, path: Path) -> None:
    """For as long as the file is open; some network file systems know no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"another process writes {path}; wait for it, or end it") from None
    except OSError:
        pass


def _whole_lines(path: Path) -> tuple[int, dict[int, tuple[str, str]]]:
    """What of the file can be read.

    Returns:
        Bytes up to the end of the last whole line; and (key, stamp) of each clip that has a
        further line, by its place.
    """
    end, highest, again = 0, -1, {}
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line.decode("ascii"))
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            end += len(line)
            if entry.get("n", highest + 1) <= highest:
                again[entry["n"]] = (entry["key"], entry["stamp"])
            highest = max(highest, entry.get("n", -1))
    return end, again


def compare_settings(path: Path, stored: dict, settings: dict, remedy: str = RESTART) -> None:
    """See that a journal was written with these settings; an earlier build had not all of them.

    Raises:
        InputError: it was not.
    """
    both = ((k, stored.get(k) or None, settings.get(k) or None) for k in stored | settings)
    names = sorted(k for k, there, here in both if there != here)
    if names:
        differ = ", ".join(f"{k} {stored.get(k)} there, {settings.get(k)} here" for k in names)
        raise InputError(f"{path} was begun with other settings ({differ}); {remedy}")
