"""Decoded clips as the page shows them: with sound, words aligned, and pictures of the model."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from manifests.errors import InputError
from mmpt_fairseq.data.audio import FRAMES_A_SECOND
from mmpt_fairseq.data.data_folder import audio_root
from mmpt_fairseq.data.waveform import SAMPLE_RATE, read_waveform, to_flac
from mmpt_fairseq.report.alignment import align_clip, read_tokens
from mmpt_fairseq.report.diff import Pair, align, error_shares, worst
from mmpt_fairseq.report.figures import Picture, alignment
from mmpt_fairseq.report.probes import Probe, attempt, load_probe
from mmpt_fairseq.report.results import Row, Scored, Table
from mmpt_fairseq.report.runs import RECOGNITION

LONGEST = 20  # seconds of sound that a page holds of one clip
SHORT = 10  # seconds of a clip that is shown as an example
WORST = 10
WITH_SOUND = 3  # of the worst
EASY_TYPICAL_HARD = (0.1, 0.5, 0.9)  # quantiles of the word error rate


@dataclass
class Sound:
    """A clip to play, 16 kHz FLAC (lossless, and played by every browser); or why there is none."""

    flac: bytes = b""
    why_not: str = ""

    @property
    def uri(self) -> str:
        return "data:audio/flac;base64," + base64.b64encode(self.flac).decode()


@dataclass
class ShownClip:
    """A decoded clip; ``why_not`` tells why there is no picture."""

    name: str
    reference: str
    hypothesis: str
    pairs: list[Pair]
    edits: int
    words: int
    sound: Sound | None = None
    picture: Picture | None = None
    why_not: str = ""


@dataclass
class ClipsOf:
    """Some clips of one decode."""

    row: Row
    table: Table
    clips: list[ShownClip]


def worst_clips(tables: Sequence[Table]) -> list[ClipsOf]:
    """The utterances with the most word errors of every row (of its first seed)."""
    result = []
    for table in tables:
        for row in table.rows:
            rows = worst(row.first.references, row.first.hypotheses, WORST)
            clips = [show(row.first, i, sound=n < WITH_SOUND) for n, i in enumerate(rows)]
            result.append(ClipsOf(row, table, clips))
    return result


def decoded_clips(tables: Sequence[Table]) -> list[ClipsOf]:
    """Of each table's best row: an easy, a typical and a hard clip, with what the model does."""
    result = []
    for table in tables:
        one = table.best.first
        quantiles = EASY_TYPICAL_HARD if table.kind == RECOGNITION else (0.5,)
        clips = [show(one, row, sound=True) for row in choose(one, quantiles)]
        probe, reason = attempt(load_probe, one.decode.checkpoint, one.decode.manifest)
        tokens = read_tokens(one.decode.output)
        for row, clip in zip(choose(one, quantiles), clips, strict=True):
            if probe is None:
                clip.why_not = reason
                continue
            clip.picture, clip.why_not = attempt(_picture, probe, row, tokens, clip.name)
        result.append(ClipsOf(table.best, table, clips))
    return result


def choose(scored: Scored, quantiles: Sequence[float]) -> list[int]:
    """Rows at these quantiles of the word error rate, among short clips if there are."""
    shares = error_shares(scored.references, scored.hypotheses)[:, 1]
    short = np.flatnonzero(scored.manifest.n_frames <= SHORT * FRAMES_A_SECOND)
    rows = short if len(short) else np.arange(len(shares))
    order = rows[np.argsort(shares[rows], kind="stable")]
    places = [round(q * (len(order) - 1)) for q in quantiles]
    return [int(order[place]) for place in dict.fromkeys(places)]


def show(scored: Scored, row: int, sound: bool) -> ShownClip:
    """A row of a decode without a picture."""
    pairs = align(scored.references[row], scored.hypotheses[row])
    return ShownClip(
        scored.manifest.column("id")[row],
        scored.references[row],
        scored.hypotheses[row],
        pairs,
        sum(pair.kind != "equal" for pair in pairs),
        sum(pair.kind != "insert" for pair in pairs),
        _sound(scored, row) if sound else None,
    )


def _sound(scored: Scored, row: int) -> Sound:
    flac, reason = attempt(_flac, scored, row)
    return Sound(flac or b"", reason)


def _flac(scored: Scored, row: int) -> bytes:
    """Raises InputError where the clip is gone, long, or known by its features alone."""
    # Where audio holds cached features, the clip itself is elsewhere.
    column = "recording" if scored.manifest.column("recording")[row] else "audio"
    manifest = scored.manifest
    waveform = read_waveform(manifest.resolve(column, row, audio_root(manifest.path.parent)))
    seconds = len(waveform) / SAMPLE_RATE
    if seconds > LONGEST:
        raise InputError(f"its {seconds:.0f} s would make the page heavy")
    return to_flac(waveform)


def _picture(probe: Probe, row: int, tokens: dict[int, list[str]], name: str) -> Picture:
    return alignment(align_clip(probe, row, tokens.get(row, [])), name)
