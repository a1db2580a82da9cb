"""Which recordings go to ``valid`` where neither folders nor a table say so."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from manifests.candidate import Candidate
from manifests.container import TOLERANCE
from manifests.recording import inspect
from manifests.splits import name_hash

LARGEST_SHARE = 1 / 3  # that whole speakers, or one recording, may take to ``valid``
WORTH_WHOLE = 1 / 6  # that whole recordings take, where the ends of all would be less

Sized = tuple[str, int]  # a recording, and how much there is of it


def hold_out(
    speakers: Iterable[str] | None,
    recordings: Callable[[], Iterable[Sized]],
    every: int,
    clips: Callable[[], Iterable[Sized]] = tuple,
) -> RecordingsHeldOut | SpeakersHeldOut:
    """Whole speakers where that leaves most for training, else whole recordings.

    Args:
        speakers: of each clip, in any order; None where they are not known.
        recordings: those of the clips, in any order and in as many parts as one likes.
        every: one in so many is held out, 0 for none.
        clips: how many each recording has, likewise; asked where there are few recordings.
    """
    if speakers is not None:
        held = SpeakersHeldOut(speakers, every)
        if held.possible:
            return held
    return RecordingsHeldOut(recordings, every, clips)


class RecordingsHeldOut:
    """One in ``every`` recordings, by a hash of their names.

    A recording's split depends on little but its name, so that where there are many it hardly
    changes as clips are added. Of two or more at least one is held out, and at least one is not;
    none that is more than ``LARGEST_SHARE`` of all, unless there are but two such, of which the
    smaller one is. Where those that the hash takes would be more than that together, one is.

    Args:
        recordings: those of the clips, in any order; read four times.
        every: 0 holds out nothing.
        clips: how many that can be used each has; asked where those held out are more than
            ``WORTH_WHOLE`` of all.

    Attributes:
        possible: whether whole recordings are to be held out, not the ends of all: there are two
            at all, and so many, or of so few clips, that the ends would be no less.
    """

    by_speaker = False

    def __init__(
        self,
        recordings: Callable[[], Iterable[Sized]],
        every: int,
        clips: Callable[[], Iterable[Sized]] = tuple,
    ) -> None:
        sizes, total = Counter(dict.fromkeys(_frequent(recordings()), 0)), 0
        self._every, self._first, self._last, self._alone = every, None, None, False
        for recording, size in recordings():
            key, total = _key(recording), total + size
            self._last = max(self._last or key, key)
            if recording in sizes:
                sizes[recording] += size
            else:
                self._first = min(self._first or key, key)
        self.possible = self._first is not None or len(sizes) > 1
        self._large = {name for name, size in sizes.items() if size > LARGEST_SHARE * total}
        for name in (n for n in sizes if n not in self._large):
            self._first = min(self._first or _key(name), _key(name))
        if self._first is None and sizes:
            self._first = _key(min(sizes, key=sizes.__getitem__))

        def held() -> int:
            return sum(size for recording, size in recordings() if recording in self)

        size = held() if every else 0
        if size > LARGEST_SHARE * total:  # as chance had it
            self._alone = True
            size = held()
        if size > WORTH_WHOLE * total:
            parts = Counter()
            for recording, count in clips():
                parts[recording] += count
            whole = sum(count for recording, count in parts.items() if recording in self)
            ends = sum(at_the_end(count, every) for count in parts.values())
            self.possible = not 0 < ends < whole

    def __contains__(self, recording: str) -> bool:
        if not self._every or not self.possible:
            return False
        key = _key(recording)
        if key == self._first or recording in self._large or self._alone:
            return key == self._first
        return key != self._last and key[0] % self._every == 0


def _frequent(recordings: Iterable[Sized], most: int = 4) -> set[str]:
    """Up to ``most`` names, among them all that are more than one part in ``most + 1`` of the sum
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
    return name_hash(group), group


def drawn(clip: Candidate) -> Candidate:
    """A clip of ``train`` that goes to ``valid``."""
    return replace(clip, split="valid", drawn=True)


def at_the_end(clips: int, every: int) -> int:
    """How many of a recording's clips are held out, where only its end is."""
    return max(1, clips // every) if every and clips > 1 else 0


def ends_held_out(clips: Iterable[Candidate], every: int) -> Iterator[Candidate]:
    """Of each recording the last usable clips of ``train``: one in ``every``, but at least one.

    Of one that is still to be cut, the last pieces.
    """
    clips, places = list(clips), defaultdict(list)
    for place, clip in enumerate(clips):
        if clip.split == "train" and is_usable(clip):
            places[clip.source].append(place)
    last: set[int] = set()
    for of_one in places.values():
        if len(of_one) == 1 and clips[of_one[0]].cut:
            clips[of_one[0]] = replace(clips[of_one[0]], last_drawn=every)
        last.update(of_one[len(of_one) - at_the_end(len(of_one), every) :])
    for place, clip in enumerate(clips):
        yield drawn(clip) if place in last else clip


def is_usable(clip: Candidate) -> bool:
    """Whether it has what is learnt from and its recording goes on until its end: credits often
    stand behind."""
    if clip.fault or clip.text == "":
        return False
    found = inspect(clip.audio)
    if found.fault or clip.seconds is None:
        return not (found.fault or found.cut_off)
    ends = clip.start + clip.seconds
    return not found.rate or ends <= found.samples / found.rate + TOLERANCE
