"""Where a comparison of ways to fine-tune starts: a finished demo or real speech."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from examples.demo.run import TAKEN_OVER, TRANSLATED_FRAMES, Demo, Sizes
from examples.mboshi import systems as mboshi_systems
from examples.mboshi.s2t_conformer import warmup


@dataclass(frozen=True)
class Origin:
    """Data, trainings and settings of a comparison.

    Attributes:
        asr, st: folders of stage 3's and stage 2's manifests and vocabularies.
        test: the split whose scores are shown.
        midtrained: the checkpoint of stage 2, of a seed.
        curve: decodes by CTC of stage 3 from scratch and from stage 2 with all transcripts, the
            last point of both curves: the folder of a seed.
        share: percent of the transcripts with which the ways are compared.
        updates, continued: of each fine-tuning, and of stage 2 with the letters of both languages.
        search: options of beam search.
        metric: ``wer`` or ``cer``, by which the weight of CTC is chosen on the validation split.
        overrides: of stages 2 and 3.
        continuing: of stage 2 besides.
        from_scratch, taken_over: of stage 3 besides, without and with an encoder taken over.
        curve_from_scratch, curve_taken_over: of the curve's trainings besides those.
        curve_frozen: share of the latter's updates for which the encoder stays as it is.
        warmup: share of the updates; None: as in the configs.
    """

    asr: Path
    st: Path
    test: str
    midtrained: Callable[[int], Path]
    curve: dict[str, Callable[[int], Path]]
    share: int
    updates: int
    continued: int
    search: list[str]
    metric: str = "wer"
    overrides: list[str] = field(default_factory=list)
    continuing: list[str] = field(default_factory=list)
    from_scratch: list[str] = field(default_factory=list)
    taken_over: list[str] = field(default_factory=list)
    curve_from_scratch: list[str] = field(default_factory=list)
    curve_taken_over: list[str] = field(default_factory=list)
    curve_frozen: float = 0.0
    warmup: Callable[[int], int] | None = None


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
        search=["--beam", "5", "--max-len-b", "100"],
        continuing=[f"dataset.max_tokens={TRANSLATED_FRAMES}"],
        from_scratch=made.every_finetuning(),
        taken_over=made.every_finetuning(),
        curve_taken_over=TAKEN_OVER,
    )


def mboshi(out: Path) -> Origin:
    """Real speech, on 30 % of the transcripts: 64 minutes.

    Recognisers of the curve have no decoder, as those of ``examples.mboshi``; its last point has
    the updates that were given there to all transcripts.

    Raises:
        InputError: that comparison has not finished.
    """
    settings = mboshi_systems.Settings.of_run(out)
    made = mboshi_systems.Comparison(Path(), out, settings)
    without_decoder = ["model.decoder_layers=0"]
    return Origin(
        asr=made.asr("all"),
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
        search=mboshi_systems.search_options(made.asr("all")),
        metric="cer",  # few words are whole there: WER is near 100 %
        overrides=settings.size.ours_with_decoder(),
        continuing=settings.midtraining(),
        from_scratch=settings.from_scratch(),
        taken_over=settings.taken_over(settings.fresh_layers),
        curve_from_scratch=without_decoder,
        curve_taken_over=without_decoder,
        curve_frozen=settings.frozen,
        warmup=warmup,
    )
