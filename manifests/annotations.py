"""Annotations in tiers: documents of ELAN (.eaf) and Praat's text files (.TextGrid)."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import PurePosixPath
from xml.etree import ElementTree

from manifests.captions import Cue

ELAN, PRAAT = ".eaf", ".textgrid"
SUFFIXES = (ELAN, PRAAT)
UNALIGNED = (math.nan, math.nan)

# What carries information in a TextGrid: texts in quotes, flags such as <exists>, and numbers that
# stand alone. All else is labels ("xmin =", "intervals [1]:"), which short files leave out.
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|<(\w+)>|(?<!\S)(-?\d[\d.eE+-]*)(?!\S)|!.*')


def read_elan(document: bytes, media: Collection[str] = ()) -> dict[str, list[Cue]]:
    """The tiers of an ELAN document by name; annotations in order of time.

    An annotation that refers to another has its times; several that refer to the same one, such as
    the words of a sentence, are joined. One that no time slot aligns has NaN as its times.

    Args:
        media: names of the recording's files; if ELAN shifts one of them, so are the times.

    Raises:
        ValueError: it is no ELAN document.
    """
    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError as error:
        raise ValueError(f"is no XML document ({error})") from None
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"is no ELAN document but <{root.tag}>")
    offset = _media_offset(root, media)
    times = {
        slot.get("TIME_SLOT_ID"): float(slot.get("TIME_VALUE", "nan")) / 1000 + offset
        for slot in root.iter("TIME_SLOT")
    }
    spans = {
        x.get("ANNOTATION_ID"): tuple(
            times.get(x.get(name), math.nan) for name in ("TIME_SLOT_REF1", "TIME_SLOT_REF2")
        )
        for x in root.iter("ALIGNABLE_ANNOTATION")
    }
    parents = {x.get("ANNOTATION_ID"): x.get("ANNOTATION_REF") for x in root.iter("REF_ANNOTATION")}
    tiers: dict[str, list[Cue]] = {}
    for tier in root.iter("TIER"):
        texts: dict[str, list[str]] = {}  # by aligned annotation
        for x in (x for annotation in tier.iter("ANNOTATION") for x in annotation):
            name = _end_of_chain(parents, x.get("ANNOTATION_ID"))
            texts.setdefault(name, []).append(x.findtext("ANNOTATION_VALUE") or "")
        cues = (Cue(*spans.get(name, UNALIGNED), " ".join(found)) for name, found in texts.items())
        tiers[tier.get("TIER_ID", "")] = _sorted(cues)
    return tiers


def _end_of_chain(parents: dict[str, str], name: str) -> str:
    """Follow references to the annotation that refers to no other."""
    seen = set()
    while name in parents and name not in seen:
        seen.add(name)
        name = parents[name]
    return name


def _media_offset(root: ElementTree.Element, media: Collection[str]) -> float:
    """The time in a recording, in seconds, at which the time of its annotations begins."""
    for descriptor in root.iter("MEDIA_DESCRIPTOR"):
        if PurePosixPath(descriptor.get("MEDIA_URL", "")).name in media:
            return float(descriptor.get("TIME_ORIGIN", 0)) / 1000
    return 0.0


def read_textgrid(text: str) -> dict[str, list[Cue]]:
    """The interval tiers of a TextGrid by name; tiers of one name are joined.

    Intervals without text are left out: a tier's intervals are contiguous, so silence is one too.

    Raises:
        ValueError: it is no complete TextGrid.
    """
    found = (match[match.lastindex] for match in _TOKEN.finditer(text) if match.lastindex)
    tokens = (token.replace('""', '"') for token in found)
    kind = list(islice(tokens, 2))
    if kind not in (["ooTextFile", "TextGrid"], ["ooTextFile short", "TextGrid"]):
        raise ValueError("is no TextGrid; save it in Praat as a text file")
    try:
        return _tiers(tokens)
    except StopIteration:
        raise ValueError("ends before its last interval") from None


def _tiers(tokens: Iterator[str]) -> dict[str, list[Cue]]:
    _, _, exists = _take(tokens, 3)
    tiers: dict[str, list[Cue]] = {}
    for _ in range(int(next(tokens)) if exists == "exists" else 0):
        kind, name, _, _, count = _take(tokens, 5)
        if kind != "IntervalTier":
            _take(tokens, 2 * int(count))  # points in time
            continue
        cues = tiers.setdefault(name, [])
        for _ in range(int(count)):
            start, end, words = _take(tokens, 3)
            if words.strip():
                cues.append(Cue(float(start), float(end), words))
    return tiers


def _take(tokens: Iterator[str], count: int) -> list[str]:
    return [next(tokens) for _ in range(count)]


def chosen(tiers: dict[str, list[Cue]], pattern: str) -> list[Cue] | None:
    """The cues of the tiers with a name, or that match a pattern like ``text@*``, in order of time.

    None if there is no such tier.
    """
    names = [pattern] if pattern in tiers else [x for x in tiers if fnmatchcase(x, pattern)]
    return _sorted(cue for name in names for cue in tiers[name]) if names else None


def with_text(tiers: dict[str, list[Cue]]) -> list[str]:
    """The names of the tiers that hold any text."""
    return [name for name, cues in tiers.items() if any(cue.text.strip() for cue in cues)]


def _sorted(cues: Iterable[Cue]) -> list[Cue]:
    """In order of time, those without times last."""
    return sorted(cues, key=lambda cue: math.inf if math.isnan(cue.start) else cue.start)
