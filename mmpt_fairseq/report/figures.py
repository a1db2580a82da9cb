"""Figures as SVG: training curves, spectrograms, video frames, alignments.

They are drawn in one ink colour, which the page replaces by its text colour, so that they are
readable on light and dark backgrounds.
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmpt_fairseq.data.audio import FRAMES_PER_SECOND, SUBSAMPLING
from mmpt_fairseq.report.alignment import Alignment
from mmpt_fairseq.report.reconstruction import GREY, MaskedClip

INK = "#010203"
# With normalised targets the model predicts a patch up to its mean and scale.
TRUE_STATS = ", with the true mean and scale of each patch"
FRAME_SECONDS = SUBSAMPLING / FRAMES_PER_SECOND  # of an encoder frame
SPECTROGRAM, CTC, ATTENTION = "spectrogram", "CTC posteriors", "decoder attention"
MAX_HEIGHT = 4.5  # inches of one panel of an alignment
LABEL_POINTS = 7.5  # font size of row labels
LABEL_PITCH = 1.25 * LABEL_POINTS  # minimum distance of row labels, in points
# Distinguishable with most kinds of colour blindness, on black and on white.
COLOURS = ("#3b82c4", "#d9822b", "#2f9e77", "#b5539c", "#c2a11f", "#c8453b", "#5fb3d9", "#8a8f98")
STYLE = {
    "svg.fonttype": "path",
    "text.parse_math": False,  # folder names and texts may contain "$"
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color", "axes.titlecolor"), INK),
}


@dataclass(frozen=True)
class SvgFigure:
    """An SVG drawn in :data:`INK`, with its alternative text."""

    svg: str
    alt: str

    @property
    def inline(self) -> str:
        """For embedding in a page: in the page's text colour."""
        return self.svg.replace(INK, "currentColor")

    @property
    def file(self) -> str:
        """For a separate file: dark on white."""
        return re.sub(
            r"(<svg\b[^>]*>)", r'\1<rect width="100%" height="100%" fill="#fff"/>', self.svg
        )


@dataclass(frozen=True)
class Line:
    """A curve: values by update, and its system (legend entry)."""

    system: str
    updates: Sequence[int]
    values: Sequence[float]
    validation: bool


@dataclass(frozen=True)
class Panel:
    """The curves of one metric for all runs of a stage."""

    title: str
    lines: list[Line]


@contextmanager
def styled_figure(width: float, height: float) -> Iterator[Figure]:
    """An empty figure in the page's style, sized in inches; needs no display."""
    with mpl.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, alt: str) -> SvgFigure:
    """Render the figure as SVG, without XML declaration, metadata and group ids."""
    buffer = io.StringIO()
    # The salt makes clip-path ids unique within a page, and reproducible.
    with mpl.rc_context({**STYLE, "svg.hashsalt": alt}):
        figure.savefig(buffer, format="svg", transparent=True, dpi=110, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    label = alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return SvgFigure(svg, alt)


def to_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Render the figure as pixels ``(H, W, 3)``, dark on white."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def colour_of(system: str, systems: Sequence[str]) -> str:
    """The colour of a legend entry as hex, unique among ``systems``."""
    index = list(systems).index(system)
    if len(systems) <= len(COLOURS):
        return COLOURS[index]
    return mpl.colors.to_hex(mpl.colormaps["turbo"](index / (len(systems) - 1)))


def curve_panel(panel: Panel, systems: Sequence[str]) -> SvgFigure:
    """One metric for all runs of a stage; validation bold, training thin."""
    with styled_figure(3.4, 2.2) as figure:
        draw_panel(figure.subplots(), panel, systems)
        return to_svg(figure, f"{panel.title} by update: {', '.join(systems)}")


def curve_sheet(title: str, panels: Sequence[Panel], systems: Sequence[str]) -> SvgFigure:
    """All panels in one figure with a legend."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with styled_figure(3.2 * columns, 2.1 * rows + 0.3 + 0.17 * len(systems)) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            draw_panel(axis, panel, systems)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        handles = [mpl.lines.Line2D([], [], color=colour_of(s, systems), label=s) for s in systems]
        figure.legend(handles=handles, loc="outside lower left", frameon=False)
        return to_svg(figure, f"{title}: training curves of {', '.join(systems)}")


def draw_panel(axis: Axes, panel: Panel, systems: Sequence[str]) -> None:
    """Plot the lines of one metric, with markers if there are too few points to see a line."""
    validated = any(line.validation for line in panel.lines)
    for line in panel.lines:
        bold = line.validation or not validated
        axis.plot(
            line.updates,
            line.values,
            color=colour_of(line.system, systems),
            linewidth=1.6 if bold else 0.8,
            alpha=1.0 if bold else 0.7,
            marker="o" if len(line.updates) < 3 else None,
            markersize=3,
        )
    axis.set_title(panel.title)
    axis.set_xlabel("update")
    axis.grid(alpha=0.15, color=INK, linewidth=0.5)


def spectrogram(
    axis: Axes,
    features: NDArray[np.float32],
    title: str,
    masked: NDArray[np.bool_] | None = None,
    limits: tuple[float, float] | None = None,
) -> None:
    """Plot log mel energies ``(T, F)`` over seconds, with ``masked`` frames ``(T,)`` in grey."""
    low, high = limits or tuple(np.quantile(features, [0.02, 0.998]))
    colours = mpl.colormaps["magma"](np.clip((features.T - low) / max(high - low, 1e-6), 0, 1))
    colours = colours[..., :3]
    if masked is not None:
        colours[:, masked] = GREY
    extent = (0, len(features) / FRAMES_PER_SECOND, 0, features.shape[1])
    axis.imshow(colours, origin="lower", aspect="auto", extent=extent, interpolation="nearest")
    axis.set_title(title)
    axis.set_ylabel("mel bin")


def reconstruction(clip: MaskedClip, name: str) -> list[SvgFigure]:
    """Spectrogram and video frames of a clip, as available: input, masked, reconstructed."""
    figures = []
    if clip.filterbank is not None:
        figures.append(
            reconstruction_spectrograms(
                clip.filterbank, clip.masked, clip.reconstructed, clip.true_stats, name
            )
        )
    if clip.frames is not None:
        figures.append(reconstruction_frames(*clip.frames, clip.true_stats, name))
    return figures


def reconstruction_spectrograms(
    original: NDArray[np.float32],
    masked: NDArray[np.bool_],
    reconstructed: NDArray[np.float32],
    true_stats: bool,
    name: str,
) -> SvgFigure:
    """Three spectrograms ``(T, F)``: input, masked, reconstructed; ``masked`` is ``(T,)``."""
    with styled_figure(8.0, 4.6) as figure:
        masked_title = draw_spectrograms(figure, original, masked, reconstructed, true_stats)
        return to_svg(figure, f"spectrogram of {name}: input, {masked_title}, reconstructed")


def draw_spectrograms(
    figure: Figure,
    original: NDArray[np.float32],
    masked: NDArray[np.bool_],
    reconstructed: NDArray[np.float32],
    true_stats: bool,
) -> str:
    """Draw :func:`reconstruction_spectrograms` into ``figure``; return the masked panel's title."""
    limits = tuple(np.quantile(original, [0.02, 0.998]))
    masked_title = f"{masked.mean():.0%} masked"
    axes = figure.subplots(3, 1, sharex=True)
    spectrogram(axes[0], original, "input", limits=limits)
    spectrogram(axes[1], original, masked_title, masked, limits)
    spectrogram(
        axes[2],
        reconstructed,
        f"reconstructed where masked{TRUE_STATS if true_stats else ''}",
        limits=limits,
    )
    axes[2].set_xlabel("seconds")
    return masked_title


def reconstruction_frames(
    original: NDArray[np.float32],
    masked: NDArray[np.float32],
    reconstructed: NDArray[np.float32],
    true_stats: bool,
    name: str,
) -> SvgFigure:
    """Three strips of video frames ``(T, H, W, 3)`` in [0, 1]."""
    with styled_figure(8.0, frames_height(len(original))) as figure:
        draw_frames(figure, original, masked, reconstructed, true_stats)
        return to_svg(figure, f"video frames of {name}: input, masked, reconstructed")


def frames_height(columns: int) -> float:
    """Height in inches of three strips of ``columns`` frames, 8 inches wide."""
    return 3 * (8.0 / columns) + 0.6


def draw_frames(
    figure: Figure,
    original: NDArray[np.float32],
    masked: NDArray[np.float32],
    reconstructed: NDArray[np.float32],
    true_stats: bool,
) -> None:
    """Draw :func:`reconstruction_frames` into ``figure``."""
    title = f"reconstructed{TRUE_STATS if true_stats else ''}"
    strips = {"input": original, "masked": masked, title: reconstructed}
    # One subfigure per strip: a long title on the first frame's axes would displace the second.
    for strip, (title, frames) in zip(figure.subfigures(3, 1), strips.items(), strict=True):
        strip.suptitle(title, x=0.0, ha="left", fontsize=STYLE["axes.titlesize"])
        axes = strip.subplots(1, len(frames), squeeze=False)[0]
        for axis, frame in zip(axes, frames, strict=True):
            axis.imshow(frame.clip(0, 1), interpolation="nearest")
            axis.set_axis_off()


def alignment(clip: Alignment, name: str) -> SvgFigure:
    """Spectrogram, CTC posteriors and decoder attention over a common time axis."""
    with styled_figure(8.0, alignment_height(clip)) as figure:
        panels = draw_alignment(figure, clip)
        return to_svg(figure, f"{' and '.join(panels)} of {name}")


def alignment_height(clip: Alignment) -> float:
    """Height in inches of :func:`alignment`'s figure."""
    return 0.7 + sum(_heights(clip).values())


def draw_alignment(figure: Figure, clip: Alignment) -> list[str]:
    """Draw :func:`alignment` into ``figure``; return the names of the panels below the first."""
    heights = _heights(clip)
    subplots = figure.subplots(len(heights), 1, sharex=True, height_ratios=list(heights.values()))
    axes = dict(zip(heights, subplots, strict=True))
    spectrogram(axes[SPECTROGRAM], clip.filterbank, "spectrogram")
    if CTC in axes:
        title = "posteriors of the labels emitted by CTC"
        heatmap(axes[CTC], clip.posteriors.T, clip.labels, title, heights[CTC])
        _write_emitted(axes[CTC], clip)
    if ATTENTION in axes:
        title = "decoder attention (last layer)"
        heatmap(axes[ATTENTION], clip.attention, clip.tokens, title, heights[ATTENTION])
    subplots[-1].set_xlabel("seconds")
    subplots[-1].set_xlim(0, len(clip.filterbank) / FRAMES_PER_SECOND)
    return list(heights)[1:]


def _heights(clip: Alignment) -> dict[str, float]:
    """Height in inches of each panel that the clip has."""
    rows = {CTC: len(clip.labels), ATTENTION: 0 if clip.attention is None else len(clip.tokens)}
    return {SPECTROGRAM: 1.6} | {
        part: min(0.5 + 0.14 * number, MAX_HEIGHT) for part, number in rows.items() if number
    }


def _write_emitted(axis: Axes, clip: Alignment) -> None:
    """Write each label at the frame where greedy CTC emits it."""
    for frame, label in clip.emitted:
        if label in clip.labels:
            place = (FRAME_SECONDS * (frame + 0.5), clip.labels.index(label))
            axis.text(*place, label, ha="center", va="center", fontsize=6.5, color=INK)


def heatmap(
    axis: Axes, values: NDArray[np.float32], names: Sequence[str], title: str, inches: float
) -> None:
    """Plot probabilities ``(rows, encoder frames)`` over seconds, first row on top.

    Args:
        inches: height; if not all names fit, only every n-th row is labelled.
    """
    extent = (0, FRAME_SECONDS * values.shape[1], len(names) - 0.5, -0.5)
    # From transparent to blue: without a background it suits light and dark pages.
    colours = np.zeros((*values.shape, 4))
    colours[..., :3] = mpl.colors.to_rgb(COLOURS[0])
    colours[..., 3] = np.clip(values / max(values.max(), 1e-9), 0, 1) ** 0.7
    axis.imshow(colours, aspect="auto", extent=extent, interpolation="nearest")
    every = math.ceil(len(names) * LABEL_PITCH / (72 * inches))
    axis.set_yticks(range(0, len(names), every), names[::every], fontsize=LABEL_POINTS)
    axis.tick_params(axis="y", length=0)
    axis.set_title(title if every == 1 else f"{title}; one row in {every} is labelled")
