"""VoxCeleb2 (arXiv 1806.05622, https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox2.html).

    python -m manifests.voxceleb2 VoxCeleb2 OUT

``{dev,test}/mp4/idXXXXX/<video>/NNNNN.mp4``; in releases whose videos have no audio it is in
``{dev,test}/aac/idXXXXX/<video>/NNNNN.m4a`` (or ``.aac``, ``.wav``); if that cannot be read, the
mp4's own is tried.
``dev`` is the training split: it is written as ``dev.tsv`` without one in a hundred speakers, who
become ``valid.tsv`` because the release has no validation split, and without the clips of others in
the same videos. Speakers of ``test`` (118) occur nowhere else; a video may, with another speaker:
these are counted, because the split is the release's. No texts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from manifests.candidate import SHARED_VIDEO, Candidate
from manifests.prepare import main
from manifests.recipe import Recipe, add_valid_every
from manifests.splits import is_held_out

AUDIO = (".m4a", ".M4A", ".aac", ".wav")  # as released, and as often renamed or converted


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Clips, sorted by speaker, video and number."""
    shared = held_out_videos(args)
    for part in ("dev", "test"):
        for speaker in sorted((args.corpus / part / "mp4").glob("id*/")):
            held = part == "dev" and is_held_out(speaker.name, args.valid_every)
            for path in sorted(p for p in speaker.glob("*/*") if p.suffix.lower() == ".mp4"):
                name, video = f"{speaker.name}/{path.parent.name}/{path.stem}", path.parent.name
                beside = (args.corpus / part / "aac" / f"{name}{suffix}" for suffix in AUDIO)
                fault = None
                if part == "dev" and not held and video in shared:
                    fault = (SHARED_VIDEO, "it would be in dev and in valid")
                yield Candidate(
                    id=name,
                    split="valid" if held else part,
                    audio=str(next(filter(Path.is_file, beside), path)),
                    audio_else=str(path),
                    video=str(path),
                    source=video,
                    columns={"speaker": speaker.name},
                    fault=fault,
                )


def held_out_videos(args: argparse.Namespace) -> set[str]:
    """Videos of the speakers of ``valid``; other speakers in them cannot be in ``dev``."""
    speakers = (args.corpus / "dev/mp4").glob("id*/")
    held = (speaker for speaker in speakers if is_held_out(speaker.name, args.valid_every))
    return {video.name for speaker in held for video in speaker.glob("*/")}


RECIPE = Recipe(
    name="voxceleb2",
    description=__doc__,
    candidates=candidates,
    add_options=lambda parser: add_valid_every(parser, 100, "speakers of dev"),
    roles={"dev": "train"},
    allowed=("source",),
)

if __name__ == "__main__":
    main(RECIPE)
