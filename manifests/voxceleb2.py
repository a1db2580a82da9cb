"""VoxCeleb2 (arXiv 1806.05622, https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox2.html).

    python -m manifests.voxceleb2 VoxCeleb2 OUT

``{dev,test}/mp4/idXXXXX/<video>/NNNNN.mp4``; in releases whose videos are silent the sound is in
``{dev,test}/aac/idXXXXX/<video>/NNNNN.m4a``. ``dev`` is what one trains on: it is written as
``dev.tsv`` less one in a hundred speakers, who make ``valid.tsv`` because the release has no
validation split. Speakers of ``test`` (118) occur nowhere else. No texts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from manifests.candidate import Candidate, held_out
from manifests.prepare import Recipe, add_valid_every, main


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Clips, sorted by speaker, video and number."""
    for part in ("dev", "test"):
        for speaker in sorted((args.corpus / part / "mp4").glob("id*/")):
            held = part == "dev" and held_out(speaker.name, args.valid_every)
            for path in sorted(speaker.glob("*/*.mp4")):
                name = f"{speaker.name}/{path.parent.name}/{path.stem}"
                beside = args.corpus / part / "aac" / f"{name}.m4a"
                yield Candidate(
                    id=name,
                    split="valid" if held else part,
                    audio=str(beside if beside.is_file() else path),
                    video=str(path),
                    # The same video may show two people; it is theirs that must not be shared.
                    source=f"{speaker.name}/{path.parent.name}",
                    columns={"speaker": speaker.name},
                )


RECIPE = Recipe(
    name="voxceleb2",
    description=__doc__,
    candidates=candidates,
    add_options=lambda parser: add_valid_every(parser, 100, "speakers of dev"),
    roles={"dev": "train"},
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
