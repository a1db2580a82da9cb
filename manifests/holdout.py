"""Which recordings go to ``valid`` where neither folders nor a table say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from zlib import crc32

from manifests.candidate import Candidate

LARGEST_SHARE = 1 / 3  # of all clips, that whole speakers may take to ``valid``


def hold_out(
    speakers: Iterable[str] | None, recordings: Callable[[], Iterable[str]], every: int
) -> RecordingsHeldOut | SpeakersHeldOut:
    """Whole speakers where that leaves most for training, else whole recordings.

    Args:
        speakers: of each clip, in any order; None where they are not known.
        recordings: the same of its recording.
        every: one in so many is held out, 0 for none.
    """
    if speakers is not None:
        held = SpeakersHeldOut(speakers, every)
        if held.possible:
            return held
    return RecordingsHeldOut(recordings(), every)


class RecordingsHeldOut:
    """One in ``every`` recordings, by a hash of their names.

    A recording's split depends on little but its name, so that it hardly changes where clips are
    added. Of two or more at least one is held out, and at least one is not. Takes no memory.

    Args:
        recordings: that of each clip, in any order.
        every: 0 holds out nothing.

    Attributes:
        possible: whether there are two recordings at all.
    """

    by_speaker = False

    def __init__(self, recordings: Iterable[str], every: int) -> None:
        self._every, self._ends = every, None
        for recording in recordings:
            key = _key(recording)
            low, high = self._ends or (key, key)
            self._ends = min(low, key), max(high, key)
        self.possible = self._ends is not None and self._ends[0] != self._ends[1]

    def __contains__(self, recording: str) -> bool:
        if not self._every or not self.possible:
            return False
        key, (low, high) = _key(recording), self._ends
        return key == low or (key != high and key[0] % self._every == 0)


class SpeakersHeldOut:
    """The speakers with the fewest clips, until about one clip in ``every`` is held out.

    Speakers differ in size by far: drawn by their names, most of a corpus may go to ``valid``.

    Args:
        speakers: that of each clip, in any order.
        every: 0 holds out nothing.

    Attributes:
        possible: whether any can be held out without taking ``LARGEST_SHARE`` of the clips, or one
            in ``every`` where that is more.
    """

    by_speaker = True

    def __init__(self, speakers: Iterable[str], every: int) -> None:
        sizes, self._held = Counter(speakers if every else ()), set()
        wanted = sizes.total() / (every or 1)
        most, held = max(wanted, LARGEST_SHARE * sizes.total()), 0
        for speaker, size in sorted(sizes.items(), key=lambda item: (item[1], _key(item[0])))[:-1]:
            nearer = held + size - wanted < wanted - held
            if held + size > most or (held and not nearer):
                break
            self._held.add(speaker)
            held += size
        self.possible = bool(self._held)

    def __contains__(self, speaker: str) -> bool:
        return speaker in self._held


def _key(group: str) -> tuple[int, str]:
    return crc32(group.encode("utf-8", "surrogateescape")), group


def drawn(clip: Candidate) -> Candidate:
    """A clip of ``train`` that goes to ``valid``."""
    return replace(clip, split="valid", drawn=True)


def end_held_out(clips: Iterable[Candidate], every: int) -> Iterator[Candidate]:
    """Of a single recording the last clips of ``train``: one in ``every``, but at least one."""
    clips = list(clips)
    places = [i for i, clip in enumerate(clips) if clip.split == "train" and not clip.fault]
    held = max(1, len(places) // every) if every and len(places) > 1 else 0
    last = set(places[len(places) - held :])
    for place, clip in enumerate(clips):
        yield drawn(clip) if place in last else clip
