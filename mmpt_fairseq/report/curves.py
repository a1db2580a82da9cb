"""Training curves from logs: one panel per metric and stage, showing all runs of the stage."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmpt_fairseq.report.figures import (
    Line,
    Panel,
    SvgFigure,
    colour_of,
    curve_panel,
    curve_sheet,
)
from mmpt_fairseq.report.results import SEED_FOLDER
from mmpt_fairseq.report.runs import PRETRAINING, RECOGNITION, TRANSLATION, Run

STAGES = {
    PRETRAINING: "Stage 1: pre-training",
    TRANSLATION: "Stage 2: mid-training (translation)",
    RECOGNITION: "Stage 3: fine-tuning (recognition)",
}
TITLES = {
    "loss": "loss (training objective)",
    "mae_audio": "audio reconstruction loss (MAE)",
    "mae_video": "video reconstruction loss (MAE)",
    "clr": "contrastive loss (CLR)",
    "clr_accuracy": "contrastive accuracy",
    "audio_to_video_recall_1": "audio-to-video retrieval (recall@1)",
    "audio_to_video_recall_5": "audio-to-video retrieval (recall@5)",
    "video_to_audio_recall_1": "video-to-audio retrieval (recall@1)",
    "video_to_audio_recall_5": "video-to-audio retrieval (recall@5)",
    "nll_loss": "cross entropy (bits per token)",
    "ctc_loss": "CTC loss",
    "accuracy": "accuracy %",  # token accuracy; clip accuracy in SUPERB's tasks
    "wer": "WER %",
    "cer": "CER %",
    "per": "PER %",
    "der": "DER %",
    "bleu": "BLEU",
    "lr": "learning rate",
}
# Logged values that say nothing about model quality: counts, speed, memory; and `ppl`, which is
# just 2 ** nll_loss.
UNPLOTTED = {
    *("wps", "ups", "wpb", "bsz", "gnorm", "clip", "train_wall"),
    *("wall", "ppl", "total", "n_correct", "peak_rss_gb", "gb_free", "loss_scale", "cuda_gb_free"),
}


@dataclass
class StageCurves:
    """The curves of one stage.

    Attributes:
        systems: legend entries with their colours.
        panels: one figure per metric.
        sheet: all panels in one figure.
    """

    title: str
    systems: dict[str, str]
    panels: list[SvgFigure]
    sheet: SvgFigure


def system_of(run: Run) -> str:
    """The run's name without its seed, so that repetitions share it."""
    return SEED_FOLDER.sub("seed*", run.name)


def stage_curves(runs: Sequence[Run]) -> list[StageCurves]:
    """Curves of every stage that has any."""
    kinds = list(dict.fromkeys([*STAGES, *(run.kind for run in runs)]))
    stages = []
    for kind in kinds:
        members = [run for run in runs if run.kind == kind and run.log]
        panels = panels_of(members)
        if not panels:
            continue
        systems = list(dict.fromkeys(system_of(run) for run in members))
        title = STAGES.get(kind, kind)
        stages.append(
            StageCurves(
                title,
                {system: colour_of(system, systems) for system in systems},
                [curve_panel(panel, systems) for panel in panels],
                curve_sheet(title, panels, systems),
            )
        )
    return stages


def panels_of(runs: Sequence[Run]) -> list[Panel]:
    """Panels to plot for one stage's runs, the learning rate last."""
    found: dict[str, None] = {}
    for run in runs:
        found |= dict.fromkeys(run.log.metrics())
        for metrics in run.log.validation().values():
            found |= dict.fromkeys(metrics)
    names = [n for n in found if n not in UNPLOTTED and not n.startswith("best_")]
    known = [name for name in TITLES if name in names]
    others = [name for name in names if name not in TITLES]
    names = sorted(known + others, key=lambda name: name == "lr")
    panels = [Panel(TITLES.get(name, name), _lines(runs, name)) for name in names]
    return [panel for panel in panels if panel.lines]


def _lines(runs: Sequence[Run], metric: str) -> list[Line]:
    lines = []
    for run in runs:
        system = system_of(run)
        curves = [(run.log.curve(metric), False)]
        curves += [(by.get(metric, {}), True) for by in run.log.validation().values()]
        for curve, validation in curves:
            if metric == "lr" and _cosine_ends_with_training(run):
                # After the last update fairseq's cosine restarts; that rate is never used.
                curve = {at: rate for at, rate in curve.items() if at < run.max_update}
            if curve:
                updates = sorted(curve)
                values = [curve[update] for update in updates]
                lines.append(Line(system, updates, values, validation))
    return lines


def _cosine_ends_with_training(run: Run) -> bool:
    """Whether the learning rate is a cosine whose period is the whole training."""
    cosine = run.get("lr_scheduler._name") == "cosine"
    explicit_period = float(run.get("lr_scheduler.lr_period_updates", 0)) > 0
    return cosine and not explicit_period and run.max_update > 0
