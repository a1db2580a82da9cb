"""Data and trainings that a fine-tuning comparison builds on: a finished demo or real speech."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from examples.demo.systems import FROZEN_AT_FIRST, TRANSLATION_FRAMES, Demo, Sizes
from examples.mboshi import systems as mboshi_systems
from examples.mboshi.s2t_conformer import warmup
from manifests.errors import InputError


@dataclass(frozen=True)
class Origin:
    """Data, trainings and settings of a comparison.

    Attributes:
        asr, st: folders of stage 3's and stage 2's manifests and vocabularies.
        test: the split whose scores are reported.
        midtrained: maps a seed to its stage 2 checkpoint.
        curve: last points of the data curves, trained on all transcripts from scratch and from
            stage 2: maps a seed to the folder of the CTC decode.
        percent: percentage of the transcripts with which the systems are compared.
        updates: of each fine-tuning.
        continued: updates of continued stage 2, whose vocabulary covers both languages.
        search: options of beam search.
        metric: ``wer`` or ``cer``, by which the CTC weight is selected on the validation split.
        overrides: Hydra overrides of stages 2 and 3.
        midtraining: further overrides of stage 2.
        from_scratch, from_encoder: further overrides of stage 3 without and with an initial
            encoder.
        curve_from_scratch, curve_from_encoder: overrides of the curves' trainings beyond those.
        curve_frozen: fraction of the updates of ``curve_from_encoder`` with a frozen encoder.
        warmup: maps the number of updates to warm-up updates; None: as in the configs.
    """

    asr: Path
    st: Path
    test: str
    midtrained: Callable[[int], Path]
    curve: dict[str, Callable[[int], Path]]
    percent: int
    updates: int
    continued: int
    search: list[str]
    metric: str = "wer"
    overrides: list[str] = field(default_factory=list)
    midtraining: list[str] = field(default_factory=list)
    from_scratch: list[str] = field(default_factory=list)
    from_encoder: list[str] = field(default_factory=list)
    curve_from_scratch: list[str] = field(default_factory=list)
    curve_from_encoder: list[str] = field(default_factory=list)
    curve_frozen: float = 0.0
    warmup: Callable[[int], int] | None = None


def demo(out: Path, language: str) -> Origin:
    """The demo's corpus with all of its transcripts, and its settings.

    Raises:
        InputError: the demo has not finished, or is of another version.
    """
    path = out / "results.json"
    if not path.is_file():
        raise InputError(f"there is no {path}; run make demo first")
    found = json.loads(path.read_text(encoding="utf-8"))
    try:
        finished = Demo(out, Sizes(**found["sizes"]), language, found["overrides"])
    except (KeyError, TypeError):
        raise InputError(
            f"{path} is of another version of the demo; move {out} away and run make demo again"
        ) from None
    midtrained = f"midtrained_mae_{language}"
    finetuning = [*finished.finetuning_overrides(), *finished.overrides]
    return Origin(
        asr=finished.corpus / "asr",
        st=finished.corpus / f"st_en-{language}",
        test="test",
        midtrained=lambda seed: finished.folder(seed, midtrained) / "checkpoint_best.pt",
        curve={
            "scratch": lambda seed: finished.folder(seed, "asr_scratch") / "decoded",
            "midtrained": lambda seed: finished.folder(seed, "asr_midtrained") / "decoded",
        },
        percent=100,
        updates=finished.sizes.finetuning_updates,
        continued=500,
        search=["--beam", "5", "--max-len-b", "100"],
        midtraining=[f"dataset.max_tokens={TRANSLATION_FRAMES}", *finished.overrides],
        from_scratch=finetuning,
        from_encoder=finetuning,
        curve_frozen=FROZEN_AT_FIRST,
    )


def mboshi(out: Path) -> Origin:
    """Real speech with 30 % of the transcripts (64 minutes).

    The curves' recognisers have no decoder, like those of ``examples.mboshi``; their last points
    have the number of updates that it uses for all transcripts.

    Raises:
        InputError: that comparison has not finished.
    """
    settings = mboshi_systems.Settings.of_run(out)
    finished = mboshi_systems.Comparison(Path(), out, settings)
    without_decoder = ["model.decoder_layers=0"]
    return Origin(
        asr=finished.asr("all"),
        st=finished.manifests / "st",
        test="dev",
        midtrained=lambda seed: finished.folder(seed, "midtrained") / "checkpoint_best.pt",
        curve={
            "scratch": lambda seed: finished.folder(seed, "all", "scratch") / "decoded",
            "midtrained": lambda seed: finished.folder(seed, "all", "stages") / "decoded",
        },
        percent=30,
        updates=settings.finetuning("few"),
        continued=settings.updates[1],
        search=mboshi_systems.search_options(finished.asr("all")),
        metric="cer",  # few words are entirely correct, so WER is near 100 %
        overrides=settings.size.model_overrides(),
        midtraining=settings.midtraining(),
        from_scratch=settings.from_scratch(),
        from_encoder=settings.from_encoder(settings.fresh_layers),
        curve_from_scratch=without_decoder,
        curve_from_encoder=without_decoder,
        curve_frozen=settings.frozen,
        warmup=warmup,
    )
