"""Figures are readable at any size."""

import itertools

import numpy as np
import pytest

from mmpt_fairseq.report.alignment import Alignment
from mmpt_fairseq.report.figures import alignment_height, draw_alignment, draw_frames, styled_figure


def attention(frames: int, rows: int) -> Alignment:
    return Alignment(
        filterbank=np.random.default_rng(0).random((frames, 80), np.float32),
        labels=["a", "blank"],
        posteriors=np.full((frames // 4, 2), 0.5, np.float32),
        emitted=[(0, "a")],
        tokens=[f"t{i}" for i in range(rows)],
        attention=np.full((rows, frames // 4), 4 / frames, np.float32),
    )


@pytest.mark.parametrize(("rows", "every"), [(9, 1), (34, 1), (43, 2), (120, 4), (400, 12)])
def test_an_alignment_is_readable_at_any_length(rows, every):
    """The spectrogram keeps its height, and row labels do not overlap."""
    clip = attention(400, rows)
    with styled_figure(8.0, alignment_height(clip)) as figure:
        draw_alignment(figure, clip)
        figure.draw_without_rendering()
        boxes = [axis.get_window_extent().height / figure.dpi for axis in figure.axes]
        assert boxes[0] > 1.0
        names = figure.axes[-1].get_yticklabels()
        assert len(names) == -(-rows // every)
        extents = [name.get_window_extent() for name in names]
        assert all(a.y0 > b.y1 for a, b in itertools.pairwise(extents))
        assert (f"one row in {every}" in figure.axes[-1].get_title(loc="left")) == (every > 1)


def test_a_long_title_does_not_shift_frames():
    frames = np.zeros((8, 4, 4, 3), np.float32)
    with styled_figure(8.0, 3.6) as figure:
        draw_frames(figure, frames, frames, frames, true_stats=True)
        figure.draw_without_rendering()
        for strip in figure.subfigs:
            lefts = [axis.get_window_extent().x0 for axis in strip.axes]
            assert np.ptp(np.diff(lefts)) < 1
