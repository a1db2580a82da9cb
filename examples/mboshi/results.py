"""Scores of the comparison on all of dev and on its unseen sentences, and the resulting claims."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from examples.mboshi.systems import BASELINES, Comparison
from examples.stages import effort
from manifests.errors import InputError
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.report.intervals import (
    Counts,
    Interval,
    mean_interval,
    relative_difference,
)
from mmpt_fairseq.report.summary import (
    count_decoded,
    format_deviation,
    format_interval,
    format_relative,
)
from mmpt_fairseq.scoring import UNITS, normalise_text

METRICS = "wer", "cer"
SUBSETS = ("dev", "unseen")
COMPARED = {"stages": "three stages", "pretrained": "stage 1"}  # with systems of fewer stages
GAIN = 20.0  # percent by which CER must be below the baseline's with few transcripts


def unseen(manifests: Path, dev: Manifest) -> list[int]:
    """Rows of dev whose sentence occurs in no training or validation row of any stage.

    Sentences that stages 1 and 2 use only as audio, without their transcripts, count as seen.
    """
    known = {
        normalise_text(text)
        for folder in sorted(manifests.iterdir())
        for split in ("train", "valid")
        if (folder / f"{split}.tsv").is_file()
        for text in Manifest(folder / f"{split}.tsv").column("src_text")
    }
    rows = [i for i, text in enumerate(dev.column("src_text")) if normalise_text(text) not in known]
    if not rows:
        raise InputError(f"every sentence of {dev.path} is also in a training manifest")
    return rows


def results(
    comparison: Comparison, systems: Sequence[str], transcripts: Sequence[str], seeds: Sequence[int]
) -> dict:
    """Scores, differences and verdicts of every system: means over seeds, and each seed."""
    found = {"systems": {}, **{f"{what} against": {} for what in COMPARED.values()}}
    verdicts = []
    for amount in transcripts:
        counts = {
            system: _of_seeds(comparison, [(s, amount, system) for s in seeds], METRICS)
            for system in systems
        }
        found["systems"][amount] = {
            system: {**_scores(counts[system]), **_efforts(comparison, amount, system, seeds)}
            for system in systems
        }
        for system, what in COMPARED.items():
            if system in systems:
                found[f"{what} against"][amount] = {
                    name: _differences(counts[system], theirs)
                    for name, theirs in counts.items()
                    if name not in ("stages", system)
                }
        if "stages" in systems:
            others = {name: c for name, c in counts.items() if name in BASELINES}
            verdicts += _verdicts(amount, counts["stages"], others)
    if "stages" in systems:
        names = [(s, "midtrained") for s in seeds]
        translated = _of_seeds(comparison, names, ["bleu"])
        found["stage 2"] = _scores(translated)
        found["stages 1 and 2"] = {
            name: [asdict(effort(comparison.folder(seed, name))) for seed in seeds]
            for name in ("pretrained", "midtrained")
        }
    return {
        **found,
        "verdicts": verdicts,
        "rows": _rows(comparison),
        "seeds": list(seeds),
        "settings": asdict(comparison.settings),
    }


def _rows(comparison: Comparison) -> dict[str, int]:
    dev = Manifest(comparison.asr("all") / "dev.tsv")
    return {"dev": len(dev), "unseen": len(unseen(comparison.manifests, dev))}


def _of_seeds(
    comparison: Comparison, names: Sequence[tuple], metrics: Sequence[str]
) -> dict[str, dict[str, list[Counts]]]:
    """A system's counts as ``counts[subset][metric]``, a list with one entry per seed."""
    found = {subset: {metric: [] for metric in metrics} for subset in SUBSETS}
    for seed, *name in names:
        folder = comparison.folder(seed, *name)
        data = comparison.manifests / "st" if name == ["midtrained"] else comparison.asr(name[0])
        dev, output = Manifest(data / "dev.tsv"), folder / "decoded" / "generate-dev.txt"
        rows = {"dev": range(len(dev)), "unseen": unseen(comparison.manifests, dev)}
        for subset in SUBSETS:
            for metric in metrics:
                counts = count_decoded(dev, output, UNITS[metric], rows[subset])
                found[subset][metric].append(counts)
    return found


def _scores(counts: dict[str, dict[str, list[Counts]]]) -> dict:
    return {
        subset: {
            metric: {**asdict(mean_interval(runs)), "seeds": [run.value for run in runs]}
            for metric, runs in metrics.items()
        }
        for subset, metrics in counts.items()
    }


def _efforts(comparison: Comparison, amount: str, system: str, seeds: Sequence[int]) -> dict:
    """Updates and seconds of each seed, and parameters; the seconds include earlier stages."""
    spent = [effort(comparison.folder(seed, amount, system)) for seed in seeds]
    seconds = [e.seconds for e in spent]
    if system == "stages":
        seconds = [comparison.seconds_of_stages(seed, amount) for seed in seeds]
    elif system == "pretrained":
        folders = [comparison.folder(seed, "pretrained") for seed in seeds]
        seconds = [own + effort(f).seconds for own, f in zip(seconds, folders, strict=True)]
    return {
        "updates": [e.updates for e in spent],
        "seconds": seconds,
        "parameters": spent[0].parameters,
    }


def _differences(ours: dict, theirs: dict) -> dict:
    return {
        subset: {
            metric: asdict(relative_difference(runs, theirs[subset][metric]))
            for metric, runs in metrics.items()
        }
        for subset, metrics in ours.items()
    }


def _verdicts(amount: str, stages: dict, others: dict[str, dict]) -> list[dict]:
    """Check whether the CER interval is below each baseline's, and whether the gain suffices."""
    found = []
    for subset in SUBSETS:
        ours = stages[subset]["cer"]
        for name, counts in others.items():
            theirs = counts[subset]["cer"]
            high, low = mean_interval(ours).high, mean_interval(theirs).low
            claim = f"{amount}, {subset}: CER interval below that of {name}"
            numbers = f"upper bound {high:.1f}, {name}'s lower bound {low:.1f}"
            found.append({"claim": claim, "holds": high < low, "numbers": numbers})
        if amount == "few" and "scratch" in others:
            gain = relative_difference(ours, others["scratch"][subset]["cer"])
            claim = f"few, {subset}: CER at least {GAIN:.0f} % (relative) below scratch"
            found.append(
                {"claim": claim, "holds": gain.value <= -GAIN, "numbers": format_relative(gain)}
            )
    return found


def table(found: dict) -> str:
    """Format the results as text."""
    names = [f"{s} {u} %" for s in SUBSETS for u in ("WER", "CER")]
    lines = [f"{'transcripts, system':<20}" + "".join(f"{n:>33}" for n in names)]
    lines[0] += "   updates   minutes  parameters"
    for amount, systems in found["systems"].items():
        for system, scores in systems.items():
            cells = [_cell(scores[subset][metric]) for subset in SUBSETS for metric in METRICS]
            line = f"{f'{amount}, {system}':<20}" + "".join(f"{cell:>33}" for cell in cells)
            line += f"{mean(scores['updates']):10.0f}{mean(scores['seconds']) / 60:10.1f}"
            lines.append(line + f"{scores['parameters']:12,d}")
    for what in COMPARED.values():
        for amount, others in found[f"{what} against"].items():
            for name, subsets in others.items():
                parts = [
                    f"{subset} {metric.upper()} {format_relative(_ends(subsets[subset][metric]))}"
                    for subset in SUBSETS
                    for metric in METRICS
                ]
                lines.append(f"{amount}, {what} against {name}: " + "; ".join(parts))
    if "stage 2" in found:
        bleu = ", ".join(
            f"{subset} {_cell(found['stage 2'][subset]['bleu'])}" for subset in SUBSETS
        )
        lines.append(f"stage 2, BLEU: {bleu}")
        for name, stage in found["stages 1 and 2"].items():
            minutes = mean(e["seconds"] for e in stage) / 60
            lines.append(f"{name}: {stage[0]['updates']} updates, {minutes:.1f} minutes")
    for verdict in found["verdicts"]:
        holds = "holds" if verdict["holds"] else "DOES NOT HOLD"
        lines.append(f"{holds}: {verdict['claim']} ({verdict['numbers']})")
    return "\n".join(lines)


def _cell(score: dict) -> str:
    """Value, interval and, with several seeds, standard deviation."""
    return format_interval(_ends(score)) + format_deviation(score["seeds"])


def _ends(score: dict) -> Interval:
    return Interval(score["value"], score["low"], score["high"])
