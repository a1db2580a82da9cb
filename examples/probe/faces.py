"""Drawn faces that speak, in three splits: ``python -m examples.probe.faces OUT``.

``OUT/corpus`` is what manifests.generated makes; ``OUT/faces`` has ``train``, ``valid`` and 110
``test`` clips, whose sentences differ and whose faces are all new, with cached filterbanks.
"""

import argparse
import os
from pathlib import Path

from manifests.errors import command_line
from manifests.features import cache_features
from manifests.generated.corpus import Settings, write_corpus
from manifests.repoint import rows
from mmpt_fairseq.data.manifest import Manifest, write_manifest

VALID, TEST = 40, 110
NOTHING = dict.fromkeys(
    (
        "translated",
        "translated_valid",
        "translated_test",
        "transcribed",
        "transcribed_valid",
        "test",
    ),
    0,
)


def prepare(out: Path, clips: int, jobs: int) -> None:
    """Draw what is not there yet and write the manifests.

    Raises:
        InputError: the corpus cannot be made, or is another one.
    """
    corpus = out / "corpus"
    settings = Settings(pretrain=clips, pretrain_valid=VALID + TEST, **NOTHING)
    write_corpus(corpus, settings, jobs)
    splits = {}
    for name in ("train", "valid"):
        splits[name] = list(rows(Manifest(corpus / "pretrain" / f"{name}.tsv")))
        for row in splits[name]:
            clip = corpus / "pretrain" / row["video"]
            row["audio"] = row["video"] = os.path.relpath(clip, out / "faces")
    splits["valid"], splits["test"] = splits["valid"][:VALID], splits["valid"][VALID:]
    for name, chosen in splits.items():
        write_manifest(out / "faces" / f"{name}.tsv", chosen)
    cache_features(out / "features.zip", [out / "faces"], jobs=jobs)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=4000, help="to learn from")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args(arguments)
    with command_line():
        prepare(args.out, args.clips, args.jobs)


if __name__ == "__main__":
    main()
