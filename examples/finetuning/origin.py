"""Where a comparison of ways to fine-tune starts: a finished demo or real speech."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from examples.demo.run import TAKEN_OVER, Demo, Sizes
from examples.mboshi.s2t_conformer import Size
from examples.mboshi.systems import Comparison, Settings
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.errors import InputError


@dataclass(frozen=True)
class Origin:
    """Data, trainings and settings of a comparison.

    Attributes:
        asr, st: folders of stage 3's and stage 2's manifests and vocabularies.
        test: the split whose scores are shown.
        midtrained: the checkpoint of stage 2, of a seed.
        curve: decodes of stage 3 from scratch and from stage 2 with all transcripts, the last point
            of both curves: the folder of a seed.
        share: percent of the transcripts with which the ways are compared.
        updates, continued: of each fine-tuning, and of stage 2 with the letters of both languages.
        overrides: of stages 2 and 3.
        continuing: of stage 2 besides.
        of_curve: of the curve's trainings besides, and ``taken_over`` of those from stage 2.
        longest: tokens of a transcript at most, where a search asks for it.
    """

    asr: Path
    st: Path
    test: str
    midtrained: Callable[[int], Path]
    curve: dict[str, Callable[[int], Path]]
    share: int
    updates: int
    continued: int
    longest: int
    overrides: list[str] = field(default_factory=list)
    continuing: list[str] = field(default_factory=list)
    of_curve: list[str] = field(default_factory=list)
    taken_over: list[str] = field(default_factory=list)


def demo(out: Path, language: str) -> Origin:
    """The demo's corpus, on all of its transcripts."""
    made = Demo(out, Sizes(), language)
    midtrained = f"midtrained_mae_{language}"
    return Origin(
        asr=made.corpus / "asr",
        st=made.corpus / f"st_en-{language}",
        test="test",
        midtrained=lambda seed: made.folder(seed, midtrained) / "checkpoint_best.pt",
        curve={
            "scratch": lambda seed: made.folder(seed, "asr_scratch") / "decoded",
            "midtrained": lambda seed: made.folder(seed, "asr_midtrained") / "decoded",
        },
        share=100,
        updates=made.sizes.finetuning_updates,
        continued=500,
        longest=100,
        continuing=["dataset.max_tokens=3000"],
        taken_over=TAKEN_OVER,
    )


def mboshi(out: Path) -> Origin:
    """Real speech, on 30 % of the transcripts: 64 minutes.

    Recognisers of the curve have no decoder, as those of ``examples.mboshi``; its last point has
    the updates that were given there to all transcripts.
    """
    path = out / "results.json"
    if not path.is_file():
        raise InputError(f"there is no {path}; run python -m examples.mboshi.run first")
    told = json.loads(path.read_text(encoding="utf-8"))["settings"]
    settings = Settings(updates=tuple(told["updates"]), size=Size(**told["size"]))
    made = Comparison(Path(), out, settings)
    asr = made.asr("all")
    without_decoder = replace(settings.size, decoder_layers=0).ours_with_decoder()
    return Origin(
        asr=asr,
        st=made.manifests / "st",
        test="dev",
        midtrained=lambda seed: made.folder(seed, "midtrained") / "checkpoint_best.pt",
        curve={
            "scratch": lambda seed: made.folder(seed, "all", "scratch") / "decoded",
            "midtrained": lambda seed: made.folder(seed, "all", "stages") / "decoded",
        },
        share=30,
        updates=settings.finetuning("few"),
        continued=settings.updates[1],
        longest=max(len(text) for text in Manifest(asr / "train.tsv").column("tgt_text")),
        overrides=[*settings.size.ours_with_decoder(), f"optimization.lr=[{told['rate']}]"],
        continuing=[
            "criterion.ctc_weight=0",
            f"++model.encoder_lr_scale={told['encoder_lr_scale']}",
        ],
        of_curve=without_decoder,
    )
