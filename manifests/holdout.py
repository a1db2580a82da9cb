"""Which recordings go to ``valid`` where neither folders nor a table say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from zlib import crc32

from manifests.candidate import Candidate


class HeldOut:
    """One in ``every`` groups (recordings or speakers), by a hash of their names.

    A group's split depends on little but its name, so that it hardly changes where clips are added.
    Of two or more groups at least one is held out, and at least one is not. Takes no memory.

    Args:
        groups: the group of each clip, in any order.
        every: 0 holds out nothing.

    Attributes:
        several: whether there are two groups at all.
    """

    def __init__(self, groups: Iterable[str], every: int) -> None:
        self._every, self._ends = every, None
        for group in groups:
            key = _key(group)
            low, high = self._ends or (key, key)
            self._ends = min(low, key), max(high, key)
        self.several = self._ends is not None and self._ends[0] != self._ends[1]

    def __contains__(self, group: str) -> bool:
        if not self._every or not self.several:
            return False
        key, (low, high) = _key(group), self._ends
        return key == low or (key != high and key[0] % self._every == 0)


class SpeakersHeldOut:
    """The speakers with the fewest clips, until one clip in ``every`` is held out.

    Speakers differ in size by far: drawn by their names, most of a corpus may go to ``valid``.

    Args:
        groups: the speaker of each clip, in any order.
        every: 0 holds out nothing.

    Attributes:
        several: whether there are two speakers at all.
    """

    def __init__(self, groups: Iterable[str], every: int) -> None:
        sizes = Counter(groups)
        self.several, self._held = len(sizes) > 1, set()
        wanted = sizes.total() / every if every else 0
        for group, size in sorted(sizes.items(), key=lambda item: (item[1], _key(item[0])))[:-1]:
            if wanted <= 0:
                break
            self._held.add(group)
            wanted -= size

    def __contains__(self, group: str) -> bool:
        return group in self._held


def _key(group: str) -> tuple[int, str]:
    return crc32(group.encode("utf-8", "surrogateescape")), group


def end_held_out(clips: Iterable[Candidate], every: int) -> Iterator[Candidate]:
    """Of a single recording the last clips of ``train``: one in ``every``, but at least one."""
    clips = list(clips)
    places = [i for i, clip in enumerate(clips) if clip.split == "train" and not clip.fault]
    held = max(1, len(places) // every) if every and len(places) > 1 else 0
    last = set(places[len(places) - held :])
    for place, clip in enumerate(clips):
        if place in last:
            # Of one recording after all: its end is told from the rest, so that it is no leak.
            clip = replace(clip, split="valid", source=f"{clip.source} (end)")
        yield clip
