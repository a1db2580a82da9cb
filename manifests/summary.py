"""Statistics of a corpus as ``summary.json`` and as a self-contained page, ``summary.html``."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np

from manifests.common import atomic_path
from manifests.errors import InputError
from mmpt_fairseq.data.audio import FRAMES_PER_SECOND
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.video import read_frames
from mmpt_fairseq.data.waveform import SAMPLE_RATE, read_waveform, split_slice, to_flac
from mmpt_fairseq.data.waveform_stream import waveform_blocks

BINS = 40
EXAMPLES = 6  # clips on the page
EXAMPLE_SECONDS = 6  # seconds of audio of each
HEIGHT = 110  # pixels of a frame on the page
FREQUENT = 30


@dataclass
class Tally:
    """Statistics of a split, added row by row; memory grows only with its vocabulary."""

    speakers: int = 0
    clips: int = 0
    frames: int = 0
    longest: int = 0
    with_video: int = 0
    without_sound: int = 0
    words: Counter = field(default_factory=Counter)
    characters: set = field(default_factory=set)
    languages: set = field(default_factory=set)
    tenths: Counter = field(default_factory=Counter)  # length in tenths of a second -> clips

    def add(self, row: dict) -> None:
        """Count a manifest's row."""
        self.clips += 1
        self.frames += row["n_frames"]
        self.longest = max(self.longest, row["n_frames"])
        self.with_video += bool(row.get("video"))
        self.without_sound += not row.get("audio")
        self.tenths[row["n_frames"] // 10] += 1
        text = row.get("tgt_text", "")
        self.words.update(text.split())
        self.characters.update(text)
        source, target = row.get("src_lang", ""), row.get("tgt_lang", "")
        self.languages.add("-".join(dict.fromkeys(name for name in (source, target) if name)))

    def figures(self) -> dict:
        """The statistics as written to ``summary.json``."""
        return {
            "clips": self.clips,
            "hours": round(self.frames / FRAMES_PER_SECOND / 3600, 4),
            "longest_seconds": self.longest / FRAMES_PER_SECOND,
            "with_video": self.with_video,
            "without_sound": self.without_sound,
            "speakers": self.speakers,
            "words": self.words.total(),
            "distinct_words": len(self.words),
            "distinct_characters": len(self.characters),
            "characters": "".join(sorted(self.characters - {" "})[:200]),
            "languages": sorted(self.languages - {""}),
            "most_frequent_words": self.words.most_common(FREQUENT),
        }


def write_summary(out: Path, command: str, tallies: dict[str, Tally], checks: dict) -> dict:
    """Write both files beside the manifests; returns the content of ``summary.json``.

    Args:
        command: the command line that wrote the manifests.
        checks: ``skipped`` (reason -> clips), ``files_left_out`` of ``files``, and ``leaks``.
    """
    splits = {split: tally.figures() for split, tally in tallies.items()}
    clips, left_out = sum(t.clips for t in tallies.values()), sum(checks["skipped"].values())
    summary = {
        "name": out.name,
        "command": command,
        "clips": clips,
        "hours": round(sum(t.frames for t in tallies.values()) / FRAMES_PER_SECOND / 3600, 4),
        "left_out_share": left_out / (clips + left_out),
        **checks,
        "splits": splits,
    }
    page = render(summary, histogram(tallies), examples(out, list(tallies)))
    texts = {
        "summary.json": json.dumps(summary, indent=1, ensure_ascii=False) + "\n",
        "summary.html": page,
    }
    for name, text in texts.items():
        with atomic_path(out / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return summary


def render(summary: dict, figure: str, clips: list[dict]) -> str:
    """The HTML page; texts of the corpus are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("summary.html.j2")
    return template.render(s=summary, histogram=figure, clips=clips)


def histogram(tallies: dict[str, Tally]) -> str:
    """Histogram of clip lengths in each split, as SVG."""
    from mmpt_fairseq.report.figures import COLOURS, styled_figure, to_svg

    longest = max(t.longest for t in tallies.values()) / FRAMES_PER_SECOND
    edges = np.linspace(0, max(longest, 0.1), BINS + 1)
    with styled_figure(7.0, 2.4) as figure:
        axes = figure.subplots()
        for i, (split, tally) in enumerate(tallies.items()):
            lengths = np.array(list(tally.tenths), dtype=float) / 10
            counts = np.histogram(lengths, edges, weights=list(tally.tenths.values()))[0]
            axes.stairs(counts, edges, label=split, color=COLOURS[i % len(COLOURS)])
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,g}")  # powers of ten would need math text
        axes.yaxis.set_minor_formatter("")
        axes.set_xlabel("seconds")
        axes.set_ylabel("clips")
        axes.legend(frameon=False)
        return to_svg(figure, "clips by their length in seconds").inline


def examples(out: Path, splits: list[str]) -> list[dict]:
    """A few clips to show: evenly spaced ones of the first split and one of each other split."""
    shown = []
    for i, split in enumerate(splits[:EXAMPLES]):
        manifest = Manifest(out / f"{split}.tsv", allow_video_only=True)
        wanted = max(1, EXAMPLES - len(splits) + 1) if i == 0 else 1
        rows = np.linspace(0, len(manifest) - 1, min(wanted, len(manifest))).round().astype(int)
        shown += [_example(manifest, split, int(row)) for row in rows]
    return shown


def _example(manifest: Manifest, split: str, row: int) -> dict:
    clip = {
        "id": manifest.column("id")[row],
        "split": split,
        "text": manifest.column("tgt_text")[row],
        "seconds": manifest.n_frames[row] / FRAMES_PER_SECOND,
        "audio": "",
        "frame": "",
        "why_not": "",
    }
    try:
        if manifest.column("audio")[row]:
            clip["audio"] = _audio_uri(manifest.resolve("audio", row))
        else:
            clip["why_not"] = "without audio"
        if manifest.column("video")[row]:
            middle = int(manifest.video_frames[row]) // 2
            clip["frame"] = _frame_uri(manifest.resolve("video", row), middle)
    except InputError as error:
        clip["why_not"] = str(error)
    return clip


def _audio_uri(source: str) -> str:
    # A whole recording may be hours long: decode only its beginning.

    whole = split_slice(source)[1:] == (0, -1)
    blocks = waveform_blocks(source) if whole else iter([read_waveform(source)])
    waveform = next(blocks)
    for block in blocks:
        if len(waveform) >= EXAMPLE_SECONDS * SAMPLE_RATE:
            break
        waveform = np.concatenate([waveform, block])
    return _as_uri(to_flac(waveform[: EXAMPLE_SECONDS * SAMPLE_RATE]), "audio/flac")


def _frame_uri(source: str, index: int) -> str:
    from PIL import Image

    image = Image.fromarray(read_frames(source, np.array([index]))[0])
    image.thumbnail((4 * HEIGHT, HEIGHT))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return _as_uri(buffer.getvalue(), "image/jpeg")


def _as_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
