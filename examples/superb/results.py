"""The SUPERB comparison's results: a table beside the published figures, and the layer weights."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from examples.superb.systems import KINDS
from mmpt_fairseq.report.figures import drawing, to_picture

# arXiv 2105.01051, table 2, on SUPERB's own corpora: not to be compared with scores on others.
PUBLISHED = {
    "FBANK": {"ks": 8.63, "ic": 9.10, "pr": 82.01, "sd": 10.05},
    "wav2vec 2.0 Base": {"ks": 96.23, "ic": 92.35, "pr": 5.74, "sd": 6.08},
    "HuBERT Base": {"ks": 96.30, "ic": 98.34, "pr": 5.41, "sd": 5.88},
}
HEADINGS = {"ks": "KS accuracy", "ic": "IC accuracy", "pr": "PR PER", "sd": "SD DER"}


def table(found: dict[str, dict[str, list[dict]]], tasks: Sequence[str]) -> str:
    """Upstream -> task -> scores of its seeds, as people read them; in percent."""
    lines = [f"{'upstream':<24}" + "".join(f"{HEADINGS[task]:>18}" for task in tasks)]
    for name, scores in found.items():
        cells = [_cell([s["value"] for s in scores[task]]) for task in tasks]
        lines.append(f"{name:<24}" + "".join(f"{cell:>18}" for cell in cells))
    lines.append("SUPERB on its own corpora (arXiv 2105.01051; not yet compared with the paper):")
    for name, scores in PUBLISHED.items():
        lines.append(f"  {name:<22}" + "".join(f"{scores[task]:>18.2f}" for task in tasks))
    lines.append("learning rates tried (metric on validation; * chosen):")
    lines += [
        f"  {name:<22}{task}: {_sweep(scores[task][0])}"
        for name, scores in found.items()
        for task in tasks
    ]
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{spread}"


def _sweep(score: dict) -> str:
    chosen = "s3prl" if score["rate"] is None else f"{score['rate']:g}"
    return ", ".join(
        f"{rate} {value:.2f}{'*' if rate == chosen else ''}"
        for rate, value in score["validated"].items()
    )


def draw_weights(found: dict[str, dict[str, list[dict]]], tasks: Sequence[str], path: Path) -> bool:
    """An SVG of every layer's learned weight, a panel an upstream; False if none has two layers."""
    deep = {
        name: scores for name, scores in found.items() if len(scores[tasks[0]][0]["weights"]) > 1
    }
    if not deep:
        return False
    with drawing(3.2 * len(deep), 2.6) as figure:
        panels = figure.subplots(1, len(deep), sharey=True, squeeze=False)[0]
        for panel, (name, scores) in zip(panels, deep.items(), strict=True):
            for task in tasks:
                weights = [mean(w) for w in zip(*(s["weights"] for s in scores[task]), strict=True)]
                label = KINDS[task].replace("_", " ")
                panel.plot(range(len(weights)), weights, marker="o", label=label)
            panel.set(title=name, xlabel="layer (0: its input)")
            panel.xaxis.get_major_locator().set_params(integer=True)
        panels[0].set_ylabel("weight")
        panels[-1].legend(fontsize="small")
        picture = to_picture(figure, f"Layer weights of {', '.join(deep)}")
    path.write_text(picture.file, encoding="utf-8")
    return True
