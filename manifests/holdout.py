"""Which recordings or speakers to hold out for ``valid`` where the corpus has no such split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from manifests.candidate import Candidate
from manifests.container import TOLERANCE
from manifests.recording import inspect
from manifests.splits import name_hash

MAX_FRACTION = 1 / 3  # of all that whole speakers, or one recording, may take to valid
WHOLE_FRACTION = 1 / 6  # fraction above which the ends of all recordings are considered instead

Sized = tuple[str, int]  # a recording and its size


def hold_out(
    speakers: Iterable[str] | None,
    recordings: Callable[[], Iterable[Sized]],
    every: int,
    clips: Callable[[], Iterable[Sized]] = tuple,
) -> RecordingsHeldOut | SpeakersHeldOut:
    """Hold out whole speakers if that leaves most for training, else whole recordings.

    Args:
        speakers: the speaker of each clip, in any order; None if unknown.
        recordings: those of the clips, in any order; sizes of repeated names add up.
        every: hold out one in this many; 0 for none.
        clips: number of clips of each recording, likewise; used where there are few recordings.
    """
    if speakers is not None:
        held = SpeakersHeldOut(speakers, every)
        if held.possible:
            return held
    return RecordingsHeldOut(recordings, every, clips)


class RecordingsHeldOut:
    """One in ``every`` recordings, chosen by a hash of their names.

    A recording's split depends on little but its name, so that with many recordings it hardly
    changes as clips are added. Of two or more recordings, at least one is held out and at least one
    is not. A recording larger than ``MAX_FRACTION`` of the total is not held out, unless there are
    only two, both that large: then the smaller one is. If the recordings chosen by the hash exceed
    that fraction together, only one is held out.

    Args:
        recordings: those of the clips, in any order; read four times.
        every: 0 holds out nothing.
        clips: number of usable clips of each; read if the recordings held out exceed
            ``WHOLE_FRACTION`` of the total.

    Attributes:
        possible: whether to hold out whole recordings rather than the ends of all: there are at
            least two, and the ends would not take fewer clips (compared above
            ``WHOLE_FRACTION`` only).
    """

    by_speaker = False

    def __init__(
        self,
        recordings: Callable[[], Iterable[Sized]],
        every: int,
        clips: Callable[[], Iterable[Sized]] = tuple,
    ) -> None:
        sizes, total = Counter(dict.fromkeys(_frequent(recordings()), 0)), 0
        self._every, self._first, self._last, self._single = every, None, None, False
        for recording, size in recordings():
            key, total = _key(recording), total + size
            self._last = max(self._last or key, key)
            if recording in sizes:
                sizes[recording] += size
            else:
                self._first = min(self._first or key, key)
        self.possible = self._first is not None or len(sizes) > 1
        self._large = {name for name, size in sizes.items() if size > MAX_FRACTION * total}
        for name in (n for n in sizes if n not in self._large):
            self._first = min(self._first or _key(name), _key(name))
        if self._first is None and sizes:
            self._first = _key(min(sizes, key=sizes.__getitem__))

        def held() -> int:
            return sum(size for recording, size in recordings() if recording in self)

        size = held() if every else 0
        if size > MAX_FRACTION * total:  # the hash happened to choose too much
            self._single = True
            size = held()
        if size > WHOLE_FRACTION * total:
            parts = Counter()
            for recording, count in clips():
                parts[recording] += count
            whole = sum(count for recording, count in parts.items() if recording in self)
            ends = sum(end_size(count, every) for count in parts.values())
            self.possible = not 0 < ends < whole

    def __contains__(self, recording: str) -> bool:
        if not self._every or not self.possible:
            return False
        key = _key(recording)
        if key == self._first or recording in self._large or self._single:
            return key == self._first
        return key != self._last and key[0] % self._every == 0


def _frequent(recordings: Iterable[Sized], most: int = 4) -> set[str]:
    """Up to ``most`` names, including all that make up more than 1 / (``most`` + 1) of the total
    (Misra and Gries, 1982)."""
    sizes: dict[str, int] = {}
    for recording, size in recordings:
        sizes[recording] = sizes.get(recording, 0) + size
        if len(sizes) > most:
            least = min(sizes.values())
            sizes = {name: rest - least for name, rest in sizes.items() if rest > least}
    return set(sizes)


class SpeakersHeldOut:
    """The speakers with the fewest clips, until about one clip in ``every`` is held out.

    Speakers differ widely in size: chosen by name, they could take most of a corpus to ``valid``.

    Args:
        speakers: the speaker of each clip, in any order.
        every: 0 holds out nothing.

    Attributes:
        possible: whether any can be held out without exceeding ``MAX_FRACTION`` of the clips, or
            one in ``every`` where that is more.
    """

    by_speaker = True

    def __init__(self, speakers: Iterable[str], every: int) -> None:
        sizes, self._held = Counter(speakers if every else ()), set()
        wanted = sizes.total() / (every or 1)
        most, held = max(wanted, MAX_FRACTION * sizes.total()), 0
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
    return name_hash(group), group


def to_valid(clip: Candidate) -> Candidate:
    """Move a clip from ``train`` to ``valid``."""
    return replace(clip, split="valid", drawn=True)


def end_size(clips: int, every: int) -> int:
    """Number of a recording's clips to hold out where only its end is held out."""
    return max(1, clips // every) if every and clips > 1 else 0


def ends_held_out(clips: Iterable[Candidate], every: int) -> Iterator[Candidate]:
    """Hold out each recording's last usable clips of ``train``: one in ``every``, at least one.

    Of a recording that will be cut later, the last pieces.
    """
    clips, places = list(clips), defaultdict(list)
    for place, clip in enumerate(clips):
        if clip.split == "train" and is_usable(clip):
            places[clip.source].append(place)
    last: set[int] = set()
    for indices in places.values():
        if len(indices) == 1 and clips[indices[0]].cut:
            clips[indices[0]] = replace(clips[indices[0]], last_drawn=every)
        last.update(indices[len(indices) - end_size(len(indices), every) :])
    for place, clip in enumerate(clips):
        yield to_valid(clip) if place in last else clip


def is_usable(clip: Candidate) -> bool:
    """Whether a clip has no known fault, a text unless none is wanted, and a readable recording
    that lasts until its end: subtitles often have credits past the end."""
    if clip.fault or clip.text == "":
        return False
    found = inspect(clip.audio)
    if found.fault or clip.seconds is None:
        return not (found.fault or found.cut_off)
    ends = clip.start + clip.seconds
    return not found.rate or ends <= found.samples / found.rate + TOLERANCE
