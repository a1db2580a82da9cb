"""The journal of inspected clips: an append-only file from which a killed run resumes.

The first line holds the settings, each further line one clip, and the last line marks the shard as
complete. A line truncated by a kill is dropped and its clip inspected again, so nothing is lost or
duplicated. A clip whose text, times or files have changed is inspected again too; its new line is
appended, and the last line of a clip is the valid one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from manifests.candidate import Candidate, Measured
from manifests.common import lock
from manifests.errors import InputError
from manifests.inspection import stamp_of

FOLDER = ".journal"
RESTART = (
    "give another output folder, or --restart to inspect the corpus again and replace its manifests"
)


def journal_path(out: Path, rank: int, shards: int) -> Path:
    """The journal of one of ``shards`` workers."""
    return out / FOLDER / f"{rank}-of-{shards}.jsonl"


def content_key(candidate: Candidate) -> str:
    """A hash of a candidate's fields but ``last_drawn``: its text, times, paths, columns ..."""
    return blake2b(repr(candidate).encode("utf-8"), digest_size=8).hexdigest()


class Journal:
    """One shard's journal, open for appending in a ``with`` block.

    Args:
        path: the file; created if missing.
        settings: what must be unchanged for the existing lines to be valid.

    Attributes:
        changed: number of clips inspected again because they have changed.

    Raises:
        InputError: the file was written with other settings, or another process is writing it.
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
        """Drop a truncated line; check that the settings match those of the existing lines."""
        lock(self._file, self.path)
        self._end, self._again = _readable_part(self.path)
        if next(read_entries(self.path), None) is None:
            self._end = 0  # no clip yet: other settings do no harm
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
        """This shard's candidates that are not in the journal, or have changed since.

        Args:
            candidates: (index in the corpus, candidate, its key).

        Raises:
            InputError: the corpus no longer offers the clips that it offered when the journal was
                started.
        """
        changed = f"the corpus has changed since {self.path} was started; {RESTART}"
        whole, known = is_complete(self.path), self._first_entries()
        for index, candidate, key in candidates:
            entry = next(known, None)
            if entry is None and whole:
                raise InputError(changed)
            if entry is None:
                yield index, candidate, key
                continue
            if (entry["n"], entry["id"], entry["split"]) != (index, candidate.id, candidate.split):
                raise InputError(changed)
            found = self._again.get(index, (entry["key"], entry["stamp"]))
            if found != (key, stamp_of(candidate)):
                self.changed += 1
                yield index, candidate, key
        if next(known, None) is not None:
            raise InputError(changed)

    def _first_entries(self) -> Iterator[dict]:
        """The first line of each clip, as of when the file was opened."""
        highest = -1
        for entry in read_entries(self.path, self._end):
            if entry["n"] > highest:
                highest = entry["n"]
                yield entry

    def write(self, clips: Iterable[tuple[int, Candidate, str]], found: list[Measured]) -> None:
        """Append results and flush them, so that they survive the end of this process."""
        self._append(_entry(*clip, one) for clip, one in zip(clips, found, strict=True))

    def finish(self, clips: int, corpus: str) -> None:
        """Mark the shard as complete.

        Args:
            clips: number of clips of this shard.
            corpus: digest of all that the corpus offers, over all shards.
        """
        end = {"clips": clips, "corpus": corpus}
        if read_end(self.path) != end:
            self._append([end])
            os.fsync(self._file.fileno())

    def _append(self, entries: Iterable[dict]) -> None:
        # ASCII, because file names need not be UTF-8: JSON escapes represent any of them.
        self._file.write("".join(json.dumps(e) + "\n" for e in entries).encode("ascii"))
        self._file.flush()


def _entry(index: int, candidate: Candidate, key: str, found: Measured) -> dict:
    entry = {
        "n": index,
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
    """The settings in the first line; empty if it is truncated."""
    with path.open(encoding="ascii") as file:
        line = file.readline()
    return json.loads(line).get("settings", {}) if line.endswith("\n") else {}


def read_entries(path: Path, end: int | None = None) -> Iterator[dict]:
    """The clips' lines; only those in the first ``end`` bytes if it is given."""
    position = 0
    with path.open("rb") as file:
        for line in file:
            position += len(line)
            if not line.endswith(b"\n") or (end is not None and position > end):
                return
            entry = json.loads(line)
            if "n" in entry:
                yield entry


def read_end(path: Path) -> dict | None:
    """The line that marks the shard as complete, or None."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 256))
        tail = file.read()
    last = tail.splitlines()[-1] if tail.endswith(b"}\n") else b""
    return json.loads(last) if last.startswith(b'{"clips":') else None


def is_complete(path: Path) -> bool:
    """Whether the shard is complete."""
    return read_end(path) is not None


def check_agreement(paths: Sequence[Path]) -> None:
    """Check that all shards, which are complete, inspected the same corpus with the same settings.

    Raises:
        InputError: some did not; the message names their ranks.
    """
    for rank, path in enumerate(paths):
        remedy = f"run --rank {rank} again, with --restart"
        compare_settings(path, read_settings(path), read_settings(paths[0]), remedy)
    corpora = [read_end(path)["corpus"] for path in paths]
    if len(set(corpora)) > 1:
        last = max(range(len(paths)), key=lambda rank: paths[rank].stat().st_mtime_ns)
        others = [str(rank) for rank, corpus in enumerate(corpora) if corpus != corpora[last]]
        raise InputError(
            f"the corpus differed between --rank {last} and --rank {', '.join(others)}; "
            "run the latter again"
        )


def _readable_part(path: Path) -> tuple[int, dict[int, tuple[str, str]]]:
    """Find the part of the file that can be read.

    Returns:
        The end, in bytes, of the last whole line; and index -> (key, stamp) of each clip that has
        more than one line.
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
    """Check that a journal was written with these settings; older versions lack some of them.

    Raises:
        InputError: it was not.
    """
    both = ((k, _scalar(stored.get(k)), _scalar(settings.get(k))) for k in stored | settings)
    names = sorted(k for k, there, here in both if there != here)
    if names:
        differ = ", ".join(f"{k} {stored.get(k)} there, {settings.get(k)} here" for k in names)
        raise InputError(f"{path} was started with other settings ({differ}); {remedy}")


def _scalar(value: object) -> object:
    """A setting as earlier versions stored it: one value instead of a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value or None
