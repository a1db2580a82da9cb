"""Output formats of transcripts: text, JSON, TSV, subtitles and Praat's TextGrid."""

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from mmpt_fairseq.scoring import without_spaces
from mmpt_fairseq.transcription.transcript import Segment, Transcript, Word

FORMATS = {
    "text": ".txt",
    "json": ".json",
    "tsv": ".tsv",
    "srt": ".srt",
    "vtt": ".vtt",
    "textgrid": ".TextGrid",
}
OF_ONE_FILE = ("srt", "vtt", "textgrid")  # cannot hold several recordings
COLUMNS = ("file", "start", "end", "text", "confidence")  # as read by manifests.tables
HEADERS = {"tsv": "\t".join(COLUMNS) + "\n", "vtt": "WEBVTT\n"}  # written once, at the top
# Limits of a cue, as broadcasters set them: two lines of 42 characters, six seconds.
CUE_SECONDS = 6.0
CUE_CHARACTERS = 84
MIN_PART_CHARACTERS = 8  # when splitting a sentence of a script without spaces
CUE_PAUSE = 1.0  # seconds without a word that end a cue
MIN_INTERVAL = 0.001  # seconds; Praat reads no empty interval
MIN_CUE_SECONDS = 1.0  # time to read a cue, unless the next one begins earlier


def render(transcript: Transcript, style: str) -> str:
    """Format a transcript in one of ``FORMATS`` without the header, ending in a newline."""
    if style == "text":
        return transcript.text + "\n"
    if style == "json":
        return json.dumps(as_dict(transcript), ensure_ascii=False) + "\n"
    if style == "tsv":
        return _rows(transcript)
    if style == "textgrid":
        return _textgrid(transcript)
    cues = enumerate(cue_lines(transcript), start=1)
    if style == "srt":
        written = [
            f"{number}\n{clock(start, ',')} --> {clock(end, ',')}\n{text}\n"
            for number, (start, end, text) in cues
        ]
        return "\n".join(written)
    written = [
        f"\n{clock(start, '.')} --> {clock(end, '.')}\n{_escape_vtt(text)}\n"
        for _, (start, end, text) in cues
    ]
    return "".join(written)


def render_failure(path: str, reason: str, style: str) -> str:
    """The output for a file that failed: one line in ``text`` and ``json``, else nothing."""
    if style == "text":
        return "\n"
    if style == "json":
        return json.dumps({"file": path, "error": reason}, ensure_ascii=False) + "\n"
    return ""


def _rows(transcript: Transcript) -> str:
    """One row for each segment that has words."""
    written = io.StringIO()
    rows = csv.writer(written, delimiter="\t", lineterminator="\n")
    for segment in transcript.segments:
        if segment.words:
            times = f"{segment.start:.3f}", f"{segment.end:.3f}"
            rows.writerow((transcript.path, *times, segment.text, f"{segment.confidence:.3f}"))
    return written.getvalue()


def _textgrid(transcript: Transcript) -> str:
    """A tier of the segments that have words, and one of the words whose times are known."""
    segments = [(x.start, x.end, x.text) for x in transcript.segments if x.words]
    words = [(x.start, x.end, x.text) for x in transcript.words if x.start is not None]
    tiers = {"text": _without_gaps(segments), "words": _without_gaps(words)}
    end = max(transcript.duration, MIN_INTERVAL, *(x[-1][1] for x in tiers.values() if x))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += [
        "xmin = 0",
        f"xmax = {end:.3f}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        last = intervals[-1][1] if intervals else 0.0
        intervals += [(last, end, "")] if last < end else []
        lines += [f"    item [{number}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{name}"', "        xmin = 0", f"        xmax = {end:.3f}"]
        lines += [f"        intervals: size = {len(intervals)}"]
        for place, (start, stop, text) in enumerate(intervals, start=1):
            quoted = text.replace('"', '""')
            lines += [f"        intervals [{place}]:", f"            xmin = {start:.3f}"]
            lines += [f"            xmax = {stop:.3f}", f'            text = "{quoted}"']
    return "\n".join(lines) + "\n"


def _without_gaps(pieces: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """The pieces as intervals that do not overlap, with empty ones between; whole milliseconds."""
    intervals, last = [], 0.0
    for start, end, text in pieces:
        begin = max(round(start, 3), last)
        if begin > last:
            intervals.append((last, begin, ""))
        last = round(max(end, begin + MIN_INTERVAL), 3)
        intervals.append((begin, last, text))
    return intervals


def as_dict(transcript: Transcript) -> dict:
    """The content of the JSON format; times in seconds to the millisecond, None if unknown."""
    fault = {"error": transcript.fault} if transcript.fault else {}
    return {
        "file": transcript.path,
        **fault,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "segments": [
            {
                "start": round(segment.start, 3),
                "end": round(segment.end, 3),
                "text": segment.text,
                "words": [_word(word) for word in segment.words],
            }
            for segment in transcript.segments
        ],
    }


def cue_lines(transcript: Transcript) -> Iterator[tuple[float, float, str]]:
    """Yield start, end and text of each subtitle cue; cues do not overlap."""
    cues = []
    for segment in transcript.segments:
        words = segment.words
        if words and words[0].start is None:
            words = _interpolate_times(segment)
        cues.extend(_cues([part for word in words for part in _split_long_word(word)]))
    starts = [cue[0].start for cue in cues]
    for cue, start, following in zip(cues, starts, [*starts, math.inf][1:], strict=True):
        end = max(start, min(max(cue[-1].end, start + MIN_CUE_SECONDS), following))
        yield start, end, " ".join(word.text for word in cue)


def _interpolate_times(segment: Segment) -> list[Word]:
    """Words of a segment without word times, placed as if all letters took equally long."""
    ends = np.cumsum([len(word.text) + 1 for word in segment.words])
    times = segment.start + (segment.end - segment.start) * np.append(0, ends) / ends[-1]
    return [
        replace(word, start=float(start), end=float(end))
        for word, (start, end) in zip(segment.words, pairwise(times), strict=True)
    ]


def clock(seconds: float, point: str) -> str:
    """``hh:mm:ss,mmm``."""
    whole = round(1000 * seconds)
    minutes, milliseconds = divmod(whole, 60_000)
    return (
        f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}"
        f"{point}{milliseconds % 1000:03d}"
    )


def _split_long_word(word: Word) -> list[Word]:
    """Split a word into equal parts that fit into cues.

    Applies the time limit only to scripts without spaces, where a word may be a whole sentence.
    """
    seconds, count = word.end - word.start, math.ceil(len(word.text) / CUE_CHARACTERS)
    if without_spaces([word.text]):
        count = max(
            count, min(math.ceil(seconds / CUE_SECONDS), len(word.text) // MIN_PART_CHARACTERS)
        )
    if count <= 1:
        return [word]
    places = [len(word.text) * i // count for i in range(count + 1)]
    times = [word.start + seconds * i / count for i in range(count + 1)]
    return [
        replace(word, text=word.text[a:b], start=start, end=end)
        for (a, b), (start, end) in zip(pairwise(places), pairwise(times), strict=True)
    ]


def _cues(words: list[Word]) -> Iterator[list[Word]]:
    cue: list[Word] = []
    for word in words:
        if cue and (
            word.start - cue[-1].end >= CUE_PAUSE
            or word.end - cue[0].start > CUE_SECONDS
            or sum(len(w.text) + 1 for w in cue) + len(word.text) > CUE_CHARACTERS
        ):
            yield cue
            cue = []
        cue.append(word)
    if cue:
        yield cue


def _word(word: Word) -> dict:
    times = {
        name: None if value is None else round(value, 3)
        for name, value in (("start", word.start), ("end", word.end))
    }
    return {"word": word.text, **times, "confidence": round(word.confidence, 3)}


def _escape_vtt(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
