"""All shards' clips together, on disk: duplicates, leaks between splits, counts, rows in order.

SQLite's temporary database spills to disk by itself, so memory stays constant for any number of
clips.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from operator import eq
from pathlib import Path

from manifests.candidate import DUPLICATE, piece_id
from manifests.common import SAMPLE_RATE
from manifests.holdout import end_size, hold_out
from manifests.journal import read_entries
from manifests.splits import role_of
from manifests.text import sentence_key

LEAKS = ("speaker", "source", "sentence")
SHOWN = 5  # examples of a leak in a message
_TABLE = """
CREATE TABLE clips (
    n INTEGER, piece INTEGER, split TEXT, drawn INTEGER, id TEXT, path TEXT,
    reason TEXT, detail TEXT, speaker TEXT, source TEXT, sentence TEXT, samples INTEGER, row TEXT,
    PRIMARY KEY (n, piece)
)
"""


class Catalogue:
    """The clips of one corpus.

    Args:
        journals: those of all shards.
        roles: split -> ``train``, ``valid`` or ``test``; a leak is between different roles.
        every: hold out again, one in this many, if all clips held out for ``valid``, or all left in
            ``train``, turn out to be unusable; 0 for never.
    """

    def __init__(self, journals: Iterable[Path], roles: Mapping[str, str], every: int = 0) -> None:
        self._database = sqlite3.connect("")  # a temporary file managed by SQLite
        self._database.execute(_TABLE)
        for path in journals:
            self._add(path)
        self._database.execute("CREATE INDEX ids ON clips (split, id)")
        self._database.create_function(
            "role", 1, lambda split: roles.get(split) or role_of(split), deterministic=True
        )
        self._extend_ids()
        self._drop_duplicates()
        if every and self._held_out_unusable():
            self._hold_out_again(every)

    def _add(self, path: Path) -> None:
        """Add the clips of one journal; if a clip has several lines, the last one counts."""
        insert = f"INSERT INTO clips VALUES ({', '.join('?' * 13)})"
        highest = -1
        for entry in read_entries(path):
            if entry["n"] <= highest:
                self._database.execute("DELETE FROM clips WHERE n = ?", (entry["n"],))
            highest = max(highest, entry["n"])
            self._database.executemany(insert, _clips(entry))

    def close(self) -> None:
        """Delete the temporary file."""
        self._database.close()

    def _extend_ids(self) -> None:
        """Append the end to ids of table rows that begin with an earlier row but end elsewhere.

        Speakers who start together have such rows. Their ids, of file and start, are as in
        journals of earlier versions.
        """
        self._database.create_function("with_end", 2, _with_end)
        self._database.execute(
            """UPDATE clips SET id = with_end(id, samples)
            WHERE reason = '' AND id GLOB '*@*.[0-9][0-9]' AND EXISTS (
            SELECT 1 FROM clips AS other WHERE other.split = clips.split AND other.id = clips.id
            AND other.n < clips.n AND other.reason = '' AND other.samples != clips.samples)"""
        )

    def _drop_duplicates(self) -> None:
        """Keep the first usable clip of each id."""
        self._database.execute(
            """UPDATE clips SET reason = ?, detail = 'another clip of the split has it too'
            WHERE reason = '' AND EXISTS (SELECT 1 FROM clips AS other
            WHERE other.split = clips.split AND other.id = clips.id
            AND other.n < clips.n AND other.reason = '')""",
            (DUPLICATE,),
        )

    def _held_out_unusable(self) -> bool:
        """Whether all of ``valid`` was held out before clips were inspected, and it or ``train``
        has no usable clip."""
        query = "SELECT COUNT(*), SUM(drawn), SUM(reason = '') FROM clips WHERE split = ?"
        count, drawn, usable = self._database.execute(query, ("valid",)).fetchone()
        left = self._database.execute(query, ("train",)).fetchone()[2]
        return bool(count and drawn == count and not (usable and left))

    def _hold_out_again(self, every: int) -> None:
        """Hold out clips again, from the usable ones."""
        self._database.execute("UPDATE clips SET split = 'train', drawn = 0 WHERE split = 'valid'")
        self._drop_duplicates()
        usable = "FROM clips WHERE split = 'train' AND reason = ''"
        ends = self._database.execute(f"SELECT MIN(source), MAX(source) {usable}").fetchone()
        common_prefix = takewhile(bool, map(eq, *(end or "" for end in ends)))
        # Without the common prefix: the choice is the same wherever the corpus is.
        source = f"SUBSTR(source, {1 + sum(common_prefix)})"
        speaker = f"COALESCE(NULLIF(speaker, ''), {source})"
        known = self._database.execute(f"SELECT 1 {usable} AND speaker != '' LIMIT 1").fetchone()
        speakers = (name for (name,) in self._database.execute(f"SELECT {speaker} {usable}"))

        def sized(size: str) -> Iterator[tuple[str, int]]:
            return self._database.execute(f"SELECT {source}, {size} {usable}")

        named = speakers if known else None
        held = hold_out(named, lambda: sized("samples"), every, lambda: sized("1"))
        chosen = f"held({speaker if held.by_speaker else source})"
        if not held.possible:
            chosen = f"""(n, piece) IN (SELECT n, piece FROM (SELECT n, piece,
                ROW_NUMBER() OVER (PARTITION BY source ORDER BY n DESC, piece DESC) AS from_end,
                COUNT(*) OVER (PARTITION BY source) AS clips {usable})
                WHERE from_end <= end_size(clips))"""
        self._database.create_function("held", 1, lambda name: name in held)
        self._database.create_function("end_size", 1, lambda clips: end_size(clips, every))
        self._database.execute(
            "UPDATE clips SET split = 'valid', drawn = 1 "
            f"WHERE split = 'train' AND reason = '' AND {chosen}"
        )

    def splits(self) -> list[str]:
        """Names of the splits that have a usable clip."""
        found = self._database.execute(
            "SELECT split FROM clips WHERE reason = '' GROUP BY split ORDER BY MIN(n)"
        )
        return [split for (split,) in found]

    def rows(self, split: str) -> Iterator[dict]:
        """Usable rows of a split in the corpus's order, including ``samples`` (at 16 kHz)."""
        found = self._database.execute(
            "SELECT id, samples, row FROM clips WHERE split = ? AND reason = '' ORDER BY n, piece",
            (split,),
        )
        for name, samples, row in found:
            yield {"id": name, "samples": samples, **json.loads(row)}

    def skipped(self) -> Iterator[tuple[str, str, str, str, str]]:
        """(id, split, path, reason, detail) of the clips left out, in the corpus's order."""
        return iter(
            self._database.execute(
                "SELECT id, split, path, reason, detail FROM clips "
                "WHERE reason != '' ORDER BY n, piece"
            )
        )

    def reasons(self) -> dict[str, int]:
        """Reason -> clips left out, the most frequent first."""
        found = self._database.execute(
            "SELECT reason, COUNT(*) FROM clips WHERE reason != '' GROUP BY reason ORDER BY 2 DESC"
        )
        return dict(found)

    def files(self, left_out: bool = False) -> int:
        """Number of distinct files of all clips, or of those left out."""
        where = " WHERE reason != ''" if left_out else ""
        found = self._database.execute(f"SELECT COUNT(DISTINCT path) FROM clips{where}")
        return found.fetchone()[0]

    def speakers(self, split: str) -> int:
        """Number of distinct speakers of a split."""
        return self._database.execute(
            "SELECT COUNT(DISTINCT NULLIF(speaker, '')) FROM clips WHERE split = ? AND reason = ''",
            (split,),
        ).fetchone()[0]

    def leaks(self, kind: str, *, drawn: bool = True) -> tuple[int, list[str]]:
        """Speakers, sources or sentences in splits of different roles: their number and examples.

        Args:
            drawn: use the splits as written; else those of the corpus, in which clips held out for
                ``valid`` here are in ``train``.
        """
        split = "split" if drawn else "CASE WHEN drawn THEN 'train' ELSE split END"
        query = f"""SELECT {kind}, GROUP_CONCAT(DISTINCT {split}) FROM clips
            WHERE reason = '' AND {kind} != '' GROUP BY {kind}
            HAVING COUNT(DISTINCT role({split})) > 1"""
        count, shown = 0, []
        for value, splits in self._database.execute(query):
            count += 1
            if len(shown) < SHOWN:
                shown.append(f"{value!r} in {splits.replace(',', ' and ')}")
        return count, shown


def leak_key(text: str) -> str:
    """Key by which sentences are compared; empty for phrases under four words, which often recur.

    In scripts without word spacing, eight characters are required instead of four words.
    """
    words = sentence_key(text).split()
    long = len(words) >= 4 or (len(words) == 1 and len(words[0]) >= 8)
    return " ".join(words) if long else ""


def _with_end(name: str, samples: int) -> str:
    """The id of a clip that starts at the time in ``name``, with its end as well."""
    start = re.search(r"@(\d+\.\d\d)$", name)
    return f"{name}-{float(start[1]) + samples / SAMPLE_RATE:.2f}" if start else name


def _printable(name: str) -> str:
    """Escape file names that are not UTF-8 (of clips left out) with backslashes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _clips(entry: dict) -> Iterator[tuple]:
    """The table rows for a journal's line: one, or one per piece."""
    pieces = entry.get("pieces")
    clips = pieces or [entry]
    first_held_out = len(clips) - end_size(len(clips), entry.get("last_drawn", 0))
    for piece, found in enumerate(clips):
        row, split, drawn = found.get("row", {}), entry["split"], entry["drawn"]
        if piece >= first_held_out:
            split, drawn = "valid", True
        name = piece_id(entry["id"], piece) if pieces else entry["id"]
        yield (
            entry["n"],
            piece,
            split,
            drawn,
            _printable(name),
            _printable(entry["path"]),
            found.get("reason", ""),
            _printable(found.get("detail", "")),
            row.get("speaker", ""),
            _printable(entry["source"]),
            leak_key(row.get("tgt_text", "")),
            found.get("samples", 0),
            json.dumps(row, ensure_ascii=False),
        )
