"""Results of the probe, as numbers for results.json and as tables."""

from collections.abc import Sequence

from examples.probe.pooling import FILTERBANK, TASKS
from examples.probe.retrieval import ENERGY
from examples.probe.systems import BASELINES, CONTRASTIVE, CORPORA, CRITERIA, UNTRAINED, Probe
from examples.stages import effort
from mmpt_fairseq.report.summary import format_mean

DIRECTIONS = ("audio to video", "video to audio")
TITLES = {
    BASELINES[0]: "log mel: mean and standard deviation",
    BASELINES[1]: "log mel less its mean: four segments",
    FILTERBANK: "log mel: best of its views",
    UNTRAINED: "encoder, untrained",
    "mae": "MAE",
    "clr": "CLR",
    "mae_clr": "MAE+CLR",
    ENERGY: "energy alone",
}


def results(probe: Probe, seeds: Sequence[int], corpora: Sequence[str] = tuple(CORPORA)) -> dict:
    """Collect all scores and recalls, running the steps that are missing."""
    baselines = probe.probe(FILTERBANK, seeds[0])
    scores = {
        view: [{task: baselines[task]["alone"][view] for task in TASKS}] for view in BASELINES
    }
    scores[FILTERBANK] = [{task: baselines[task] for task in TASKS}]
    prefixes = {corpus: CORPORA[corpus] for corpus in corpora}
    for prefix in prefixes.values():
        for system in (UNTRAINED, *CRITERIA):
            scores[prefix + system] = [probe.probe(prefix + system, seed) for seed in seeds]
    recalls = {
        corpus: {
            ENERGY: [probe.retrieve(f"{prefix}{ENERGY}", seeds[0])],
            **{o: [probe.retrieve(f"{prefix}{o}", seed) for seed in seeds] for o in CONTRASTIVE},
        }
        for corpus, prefix in prefixes.items()
    }
    trainings = [prefix + objective for prefix in prefixes.values() for objective in CRITERIA]
    return {
        "seeds": list(seeds),
        "scores": scores,
        "recalls": recalls,
        "effort": {
            name: [vars(effort(probe.folder(seed, name))) for seed in seeds] for name in trainings
        },
    }


def tables(record: dict) -> str:
    """Markdown tables of accuracies and of recalls at 1 with their controls."""
    lines = ["| linear classifier on | digits % | words % |", "|---|---|---|"]
    for system, runs in record["scores"].items():
        cells = [format_mean([run[task]["accuracy"] for run in runs]) for task in TASKS]
        lines.append(f"| {_title(system)} | {' | '.join(cells)} |")
    lines += ["", "| retrieval at 1 of 100 | audio to video % | video to audio % |"]
    lines.append("|---|---|---|")
    for corpus, systems in record["recalls"].items():
        for system, runs in systems.items():
            cells = [format_mean([run[direction] for run in runs]) for direction in DIRECTIONS]
            name = "GRID" if corpus == "real" else "drawn faces"
            lines.append(f"| {name}, {TITLES[system]} | {' | '.join(cells)} |")
            for control in runs[0].get("controls", ()):
                cells = [
                    format_mean([run["controls"][control][direction] for run in runs])
                    for direction in DIRECTIONS
                ]
                lines.append(f"| the same, {control} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _title(system: str) -> str:
    """Title of a system's row; that of ``drawn_mae`` is ``MAE, drawn faces``."""
    name = system.removeprefix(CORPORA["drawn"])
    return TITLES[name] + ("" if name == system else ", drawn faces")
