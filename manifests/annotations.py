"""Annotations in tiers: documents of ELAN (.eaf) and Praat's text files (.TextGrid)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from urllib.parse import unquote
from xml.etree import ElementTree

from manifests.captions import Cue
from manifests.text import composed

ELAN, PRAAT = ".eaf", ".textgrid"
SUFFIXES = (ELAN, PRAAT)
UNALIGNED = (math.nan, math.nan)

Tiers = dict[str, list[Cue]]

# What carries information in a TextGrid: texts in quotes, flags such as <exists>, and numbers that
# stand alone. All else is labels ("xmin =", "intervals [1]:"), which short files leave out.
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|<(\w+)>|(?<!\S)(-?\d[\d.,eE+-]*)(?!\S)|!.*')


class NoSuchTier(ValueError):
    """A file of annotations has none of the wanted tiers."""


def read_elan(document: bytes, media: Sequence[str] = ()) -> Tiers:
    """The tiers of an ELAN document by name; annotations in order of time.

    An annotation that refers to another has its times; several that refer to the same one, such as
    the words of a sentence, are joined. One that no time slot aligns has NaN as its times.

    Args:
        media: names of the recording's files; if ELAN shifts one of them, so are the times.

    Raises:
        ValueError: it is no ELAN document, or gives the recording's files no common time.
    """
    try:
        root = ElementTree.fromstring(document)
    except (ElementTree.ParseError, LookupError) as error:  # LookupError: unknown encoding
        raise ValueError(f"is no XML document ({error})") from None
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"is no ELAN document but <{root.tag}>")
    offset = _media_offset(root, media)
    times = {
        slot.get("TIME_SLOT_ID"): _number(slot.get("TIME_VALUE") or "nan") / 1000 + offset
        for slot in root.iter("TIME_SLOT")
    }
    spans = {
        x.get("ANNOTATION_ID"): tuple(
            times.get(x.get(name), math.nan) for name in ("TIME_SLOT_REF1", "TIME_SLOT_REF2")
        )
        for x in root.iter("ALIGNABLE_ANNOTATION")
    }
    parents = {x.get("ANNOTATION_ID"): x.get("ANNOTATION_REF") for x in root.iter("REF_ANNOTATION")}
    tiers: Tiers = {}
    for tier in root.iter("TIER"):
        texts: dict[str, list[str]] = {}  # by aligned annotation
        for x in (x for annotation in tier.iter("ANNOTATION") for x in annotation):
            name = _end_of_chain(parents, x.get("ANNOTATION_ID"))
            texts.setdefault(name, []).append(x.findtext("ANNOTATION_VALUE") or "")
        cues = (Cue(*spans.get(x, UNALIGNED), " ".join(found), of=x) for x, found in texts.items())
        tiers[_tier_name(tier.get("TIER_ID", ""))] = _sorted(cues)
    return tiers


def _end_of_chain(parents: dict[str, str], name: str) -> str:
    """Follow references to the annotation that refers to no other."""
    seen = set()
    while name in parents and name not in seen:
        seen.add(name)
        name = parents[name]
    return name


def _media_offset(root: ElementTree.Element, media: Sequence[str]) -> float:
    """The time in a recording, in seconds, at which the time of its annotations begins.

    Raises:
        ValueError: it differs between the recording's files, or only that of others is known.
    """
    origins: dict[str, float] = {}
    for descriptor in root.iter("MEDIA_DESCRIPTOR"):
        url = descriptor.get("MEDIA_URL") or descriptor.get("RELATIVE_MEDIA_URL", "")
        origin = _number(descriptor.get("TIME_ORIGIN") or "0") / 1000
        origins.setdefault(_comparable(unquote(url)), origin)
    names = [_comparable(name) for name in media]
    found = {origins[name] for name in names if name in origins}
    if not found:  # the audio of a video, extracted from it
        stems = {name.rpartition(".")[0] for name in names}
        found = {x for name, x in origins.items() if name.rpartition(".")[0] in stems}
    if len(found) > 1:
        raise ValueError(
            f"gives {' and '.join(media)} different times (TIME_ORIGIN); keep one of them beside it"
        )
    if media and not found and any(origins.values()):
        raise ValueError(f"shifts other media in time (TIME_ORIGIN), but names no {media[0]}")
    return found.pop() if found else 0.0


def _comparable(path: str) -> str:
    return composed(path.replace("\\", "/").rpartition("/")[2]).casefold()


def read_textgrid(text: str) -> Tiers:
    """The interval tiers of a TextGrid by name; tiers of one name are joined.

    Intervals without text are left out: a tier's intervals are contiguous, so silence is one too.

    Raises:
        ValueError: it is no complete TextGrid.
    """
    found = (match[match.lastindex] for match in _TOKEN.finditer(text) if match.lastindex)
    tokens = (token.replace('""', '"') for token in found)
    file, kind = [*islice(tokens, 2), "", ""][:2]
    if file not in ("ooTextFile", "ooTextFile short"):
        raise ValueError("is no TextGrid; save it in Praat as a text file")
    if kind != "TextGrid":
        raise ValueError(f"holds a {kind}, not a TextGrid; save each of its TextGrids in Praat")
    try:
        tiers = _tiers(tokens)
    except StopIteration:
        raise ValueError("ends before its last interval") from None
    if next(tokens, None) is not None:
        raise ValueError("holds more intervals or tiers than it states")
    return tiers


def _tiers(tokens: Iterator[str]) -> Tiers:
    _, _, exists = _take(tokens, 3)
    tiers: Tiers = {}
    for number in range(int(_number(next(tokens))) if exists == "exists" else 0):
        kind, name, _, _, count = _take(tokens, 5)
        if kind not in ("IntervalTier", "TextTier"):
            raise ValueError(f"holds {kind[:20]!r} where tier {number + 1} should begin")
        if kind == "TextTier":
            _take(tokens, 2 * int(_number(count)))  # points in time
            continue
        cues = tiers.setdefault(_tier_name(name), [])
        for _ in range(int(_number(count))):
            start, end, words = _take(tokens, 3)
            cue = Cue(_number(start), _number(end), words)
            cues += [cue] if words.strip() else []
    return {name: _sorted(cues) for name, cues in tiers.items()}


def _take(tokens: Iterator[str], count: int) -> list[str]:
    return [next(tokens) for _ in range(count)]


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"holds {value[:20]!r} where a number should be") from None


def _tier_name(name: str) -> str:
    return composed(name).strip()


def chosen(tiers: Tiers, patterns: Iterable[str]) -> list[Cue]:
    """The cues of the tiers that match the first pattern that any matches, in order of time.

    Args:
        patterns: names, or patterns like ``text@*``.

    Raises:
        NoSuchTier: none matches.
    """
    for pattern in map(_tier_name, patterns):
        names = [pattern] if pattern in tiers else [x for x in tiers if fnmatchcase(x, pattern)]
        if names:
            return _sorted(cue for name in names for cue in tiers[name])
    names = ", ".join(map(repr, tiers)) or "none"
    raise NoSuchTier(f"has no tier {' or '.join(map(repr, patterns))} of intervals, but {names}")


def with_text(tiers: Tiers) -> list[str]:
    """The names of the tiers that hold any text."""
    return [name for name, cues in tiers.items() if any(cue.text.strip() for cue in cues)]


def _sorted(cues: Iterable[Cue]) -> list[Cue]:
    """In order of time, those without times last."""
    return sorted(cues, key=lambda cue: math.inf if math.isnan(cue.start) else cue.start)
