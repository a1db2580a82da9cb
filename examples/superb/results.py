"""Results of the SUPERB comparison: a table with published figures, and the layer weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from examples.superb.systems import KINDS, SPLITS
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.report.figures import styled_figure, to_svg
from mmpt_fairseq.report.summary import format_mean

Scores = dict[str, dict[str, list[dict]]]  # upstream -> task -> scores of its seeds

# arXiv 2105.01051, table 2, on SUPERB's own corpora: not comparable with scores on others. Only
# HuBERT's diarization could be checked against a second source (arXiv 2110.13900, table I).
PUBLISHED = {
    "FBANK": {"ks": 8.63, "ic": 9.10, "pr": 82.01, "sd": 10.05},
    "wav2vec 2.0 Base": {"ks": 96.23, "ic": 92.35, "pr": 5.74, "sd": 6.08},
    "HuBERT Base": {"ks": 96.30, "ic": 98.34, "pr": 5.41, "sd": 5.88},
}
HEADINGS = {
    "ks": "KS accuracy %",
    "ic": "IC accuracy %",
    "pr": "PR PER %",
    "sd": "SD DER %",
}


def clips(data: Path, tasks: Sequence[str]) -> dict[str, dict[str, int]]:
    """Task -> split -> number of clips."""
    return {
        task: {split: len(Manifest(data / task / f"{split}.tsv")) for split in SPLITS}
        for task in tasks
    }


def table(results: Scores, tasks: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> str:
    """The scores of all upstreams and the learning rates tried, in Markdown."""
    lines = [
        _row("upstream", [HEADINGS[task] for task in tasks]),
        "|---" * (len(tasks) + 1) + "|",
    ]
    for name, scores in results.items():
        lines.append(
            _row(name, [format_mean([s["value"] for s in scores[task]]) for task in tasks])
        )
    for name, scores in PUBLISHED.items():
        values = [f"{scores[task]:.2f}" for task in tasks]
        lines.append(_row(f"published: {name} on SUPERB's own corpora", values))
    splits = [" / ".join(str(counts[task][split]) for split in SPLITS) for task in tasks]
    lines += ["", f"Clips ({' / '.join(SPLITS)}): {_pairs(tasks, splits)}."]
    lines += [
        *_slots(results),
        "",
        _row("rates tried (validation; * chosen)", tasks),
        "|---" * (len(tasks) + 1) + "|",
        *(_row(name, [_sweep(scores[t][0]) for t in tasks]) for name, scores in results.items()),
    ]
    return "\n".join(lines)


def _slots(results: Scores) -> list[str]:
    """Accuracy of each slot of intent classification, averaged over the seeds."""
    parts = []
    for name, scores in results.items():
        if each := [score["slots"] for score in scores.get("ic", [])]:
            means = [f"{mean(slot):.1f}" for slot in zip(*each, strict=True)]
            parts.append(f"{name} {' / '.join(means)}")
    return [f"IC, accuracy % of each slot alone: {'; '.join(parts)}."] if parts else []


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([name, *cells])} |"


def _pairs(names: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def _sweep(score: dict) -> str:
    chosen = "s3prl" if score["rate"] is None else f"{score['rate']:g}"
    return ", ".join(
        f"{rate}: {value:.1f}{'*' if rate == chosen else ''}"
        for rate, value in score["validated"].items()
    )


def draw_weights(results: Scores, tasks: Sequence[str], path: Path) -> bool:
    """Plot the layer weights to an SVG, one panel per upstream; False if none has two layers."""
    multilayer = {
        name: scores for name, scores in results.items() if len(scores[tasks[0]][0]["weights"]) > 1
    }
    if not multilayer:
        return False
    with styled_figure(3.2 * len(multilayer), 2.6) as figure:
        panels = figure.subplots(1, len(multilayer), sharey=True, squeeze=False)[0]
        for panel, (name, scores) in zip(panels, multilayer.items(), strict=True):
            for task in tasks:
                weights = [mean(w) for w in zip(*(s["weights"] for s in scores[task]), strict=True)]
                label = KINDS[task].replace("_", " ")
                panel.plot(range(len(weights)), weights, marker="o", label=label)
            panel.set(title=name, xlabel="layer (0: its input)")
            panel.xaxis.get_major_locator().set_params(integer=True)
        panels[0].set_ylabel("weight")
        panels[-1].legend(fontsize="small")
        image = to_svg(figure, f"Layer weights of {', '.join(multilayer)}")
    path.write_text(image.file, encoding="utf-8")
    return True
