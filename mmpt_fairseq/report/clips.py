"""Decoded clips as shown in the report: audio, aligned words, and alignment figures."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from manifests.errors import InputError
from mmpt_fairseq.data.audio import FRAMES_PER_SECOND
from mmpt_fairseq.data.data_folder import audio_root
from mmpt_fairseq.data.waveform import SAMPLE_RATE, read_waveform, to_flac
from mmpt_fairseq.report.alignment import align_clip, read_tokens
from mmpt_fairseq.report.diff import Pair, align, edits_and_rates, worst
from mmpt_fairseq.report.figures import SvgFigure, alignment
from mmpt_fairseq.report.probes import Probe, attempt, load_probe
from mmpt_fairseq.report.results import Row, ScoredDecode, Table
from mmpt_fairseq.report.runs import RECOGNITION

MAX_AUDIO_SECONDS = 20  # longer clips are not embedded in the page
SHORT_SECONDS = 10  # examples are chosen among clips up to this length, if any
N_WORST = 10
WITH_AUDIO = 3  # of the worst clips
EASY_TYPICAL_HARD = (0.1, 0.5, 0.9)  # quantiles of the word error rate


@dataclass
class AudioClip:
    """A clip as 16 kHz FLAC (lossless, plays in every browser), or the reason it is missing."""

    flac: bytes = b""
    reason_missing: str = ""

    @property
    def uri(self) -> str:
        return "data:audio/flac;base64," + base64.b64encode(self.flac).decode()


@dataclass
class ClipResult:
    """A decoded clip; ``reason_missing`` says why it has no figure."""

    name: str
    reference: str
    hypothesis: str
    pairs: list[Pair]
    edits: int
    words: int
    audio: AudioClip | None = None
    figure: SvgFigure | None = None
    reason_missing: str = ""


@dataclass
class ClipGroup:
    """Clips of one table row."""

    row: Row
    table: Table
    clips: list[ClipResult]


def worst_clips(tables: Sequence[Table]) -> list[ClipGroup]:
    """Utterances with the most word errors, for every row (its first seed)."""
    result = []
    for table in tables:
        for row in table.rows:
            rows = worst(row.first.references, row.first.hypotheses, N_WORST)
            clips = [show(row.first, i, with_audio=n < WITH_AUDIO) for n, i in enumerate(rows)]
            result.append(ClipGroup(row, table, clips))
    return result


def decoded_clips(tables: Sequence[Table]) -> list[ClipGroup]:
    """An easy, a typical and a hard clip of each table's best row, with alignment figures.

    Translations get a typical clip only.
    """
    result = []
    for table in tables:
        one = table.best.first
        quantiles = EASY_TYPICAL_HARD if table.kind == RECOGNITION else (0.5,)
        clips = [show(one, row, with_audio=True) for row in choose(one, quantiles)]
        probe, reason = attempt(load_probe, one.decode.checkpoint, one.decode.manifest)
        tokens = read_tokens(one.decode.output)
        for row, clip in zip(choose(one, quantiles), clips, strict=True):
            if probe is None:
                clip.reason_missing = reason
                continue
            clip.figure, clip.reason_missing = attempt(
                _alignment_figure, probe, row, tokens, clip.name
            )
        result.append(ClipGroup(table.best, table, clips))
    return result


def choose(scored: ScoredDecode, quantiles: Sequence[float]) -> list[int]:
    """Rows at these quantiles of the word error rate, among short clips if there are any."""
    rates = edits_and_rates(scored.references, scored.hypotheses)[:, 1]
    short = np.flatnonzero(scored.manifest.n_frames <= SHORT_SECONDS * FRAMES_PER_SECOND)
    rows = short if len(short) else np.arange(len(rates))
    order = rows[np.argsort(rates[rows], kind="stable")]
    positions = [round(q * (len(order) - 1)) for q in quantiles]
    return [int(order[position]) for position in dict.fromkeys(positions)]


def show(scored: ScoredDecode, row: int, with_audio: bool) -> ClipResult:
    """Build the result for one row of a decode, without a figure."""
    pairs = align(scored.references[row], scored.hypotheses[row])
    return ClipResult(
        scored.manifest.column("id")[row],
        scored.references[row],
        scored.hypotheses[row],
        pairs,
        sum(pair.kind != "equal" for pair in pairs),
        sum(pair.kind != "insert" for pair in pairs),
        _audio_clip(scored, row) if with_audio else None,
    )


def _audio_clip(scored: ScoredDecode, row: int) -> AudioClip:
    flac, reason = attempt(_flac, scored, row)
    return AudioClip(flac or b"", reason)


def _flac(scored: ScoredDecode, row: int) -> bytes:
    """FLAC of a clip; raises InputError if it is missing, too long, or has features only."""
    # If the column audio points to cached features, the waveform is in the column recording.
    column = "recording" if scored.manifest.column("recording")[row] else "audio"
    manifest = scored.manifest
    waveform = read_waveform(manifest.resolve(column, row, audio_root(manifest.path.parent)))
    seconds = len(waveform) / SAMPLE_RATE
    if seconds > MAX_AUDIO_SECONDS:
        raise InputError(f"at {seconds:.0f} s it is too long to embed in the page")
    return to_flac(waveform)


def _alignment_figure(probe: Probe, row: int, tokens: dict[int, list[str]], name: str) -> SvgFigure:
    return alignment(align_clip(probe, row, tokens.get(row, [])), name)
