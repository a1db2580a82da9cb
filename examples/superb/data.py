"""Small data sets for SUPERB's four tasks, for use where its own corpora are not available.

    python -m examples.superb.data --data DIR --out data/superb

``ks``  ``DIR/keywords/``: six wake words, split by file.
``ic``  ``DIR/coffee_orders/``: three slots, split by file.
``sd``  ``DIR/librispeech/train-clean-100/``: pairs of speakers mixed, no speaker in two splits.
``pr``  sentences of the generated corpus spoken by American voices of eSpeak NG, with the phones
        that it reports; no voice and no sentence in two splits. It needs no ``DIR``.

README.md has the details. ``--features`` caches filterbanks for upstreams that read them; others
still find the recordings.

For SUPERB's own corpora, ``python -m manifests.speech_commands``, ``fluent_speech_commands``,
``librispeech_phones`` and ``libri2mix`` write the same manifests.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from examples.corpora import measure, recordings
from manifests.common import parallel_map
from manifests.errors import InputError, command_line
from manifests.features import cache_features
from manifests.generated.grammar import sentences
from manifests.generated.speech import ACCENTS, VARIANTS, Speaker, draw_speakers, speak
from mmpt_fairseq.data.audio import FRAME_LENGTH, FRAME_SHIFT, FRAMES_PER_SECOND, num_frames
from mmpt_fairseq.data.manifest import write_manifest
from mmpt_fairseq.data.segments import format_segments
from mmpt_fairseq.data.waveform import SAMPLE_RATE, read_waveform

SPLITS = ("train", "valid", "test")
SPLIT_RATIOS = {"train": 0.7, "valid": 0.1, "test": 0.2}
SLOTS = ("coffeeDrink", "numberOfShots", "roast")
MIXTURES = {"train": 240, "valid": 24, "test": 60}
SENTENCES = {"train": 400, "valid": 40, "test": 80}
VOICES = {"train": 9, "valid": 2, "test": 2}
ACCENT = "en-us+"  # one accent, so that all splits have the same phones
SPEECH_SECONDS = 4.0  # of each speaker in a mixture
FEATURES = "features.zip"
PAUSE = 0.3  # seconds of silence that separate two segments
BELOW_PEAK = 30.0  # dB; frames down to this far below a speaker's loud frames are speech


def keyword_spotting(data: Path, out: Path, jobs: int) -> None:
    """Wake words; the class is the name of the folder."""
    folder = _folder(data, "keywords")
    files = sorted(folder.glob("*/*.ogg"))
    rows = [_row(f"{path.parent.name}_{path.stem}", path, path.parent.name) for path in files]
    _write_split_by_file(rows, out, jobs)


def intent_classification(data: Path, out: Path, jobs: int) -> None:
    """Coffee orders, all with the same intent; a slot that is not mentioned is ``none``."""
    folder = _folder(data, "coffee_orders")
    orders = json.loads((folder / "label.json").read_text(encoding="utf-8"))
    rows = []
    for name, order in sorted(orders.items()):
        values = [order["slots"].get(slot, "none").strip() for slot in SLOTS]
        text = " ".join(value.replace(" ", "_") for value in values)
        rows.append(_row(Path(name).stem, folder / "audio" / name, text))
    _write_split_by_file(rows, out, jobs)


def phoneme_recognition(data: Path | None, out: Path, jobs: int) -> None:
    """Generated sentences with eSpeak NG's phones, without stress marks and pauses."""
    everyone = draw_speakers(1, len(ACCENTS) * len(VARIANTS))
    speakers = iter([s for s in everyone if s.voice.startswith(ACCENT)])
    texts = iter(sentences(1, sum(SENTENCES.values())))
    items = []
    for split, count in SENTENCES.items():
        pool = list(islice(speakers, VOICES[split]))
        items += [
            (out / "clips" / f"{split}_{i:04d}.flac", next(texts)["en"], pool[i % len(pool)])
            for i in range(count)
        ]
    rows = _by_split(parallel_map(_spoken, items, jobs, "pr"))
    known = {phone for row in rows["train"] for phone in row["tgt_text"].split()}
    for split, spoken in rows.items():
        write_manifest(out / f"{split}.tsv", [row for row in spoken if _has_only(row, known)])


def _by_split(rows: list[dict]) -> dict[str, list[dict]]:
    """Group rows by the split that their ids, such as ``train_0000``, begin with."""
    return {split: [r for r in rows if r["id"].startswith(f"{split}_")] for split in SPLITS}


def _has_only(row: dict, known: set[str]) -> bool:
    unknown = sorted(set(row["tgt_text"].split()) - known)
    if unknown:
        print(f"left out {row['id']}: {unknown[0]} does not occur in training", file=sys.stderr)
    return not unknown


def speaker_diarization(data: Path, out: Path, jobs: int) -> None:
    """Mixtures of two speakers, the second starting at random within the first."""
    folder = _folder(data, "librispeech/train-clean-100")
    speakers: dict[str, Path] = {}
    for path in recordings(folder):
        speakers.setdefault(path.stem.split("-")[0], path)
    by_split: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for speaker, path in speakers.items():
        by_split[split_of(speaker)].append(path)
    items = []
    for split, count in MIXTURES.items():
        pool = by_split[split]
        if len(pool) < 2:
            raise InputError(f"{folder} has too few speakers for the split {split}")
        rng = np.random.default_rng([1, SPLITS.index(split)])
        pairs = [rng.choice(len(pool), 2, replace=False) for _ in range(count)]
        items += [
            (out / "clips" / f"{split}_{i:04d}.flac", pool[first], pool[second], i)
            for i, (first, second) in enumerate(pairs)
        ]
    for split, mixed in _by_split(parallel_map(_mixed, items, jobs, "sd")).items():
        write_manifest(out / f"{split}.tsv", mixed)


TASKS: dict[str, Callable[[Path, Path, int], None]] = {
    "ks": keyword_spotting,
    "ic": intent_classification,
    "pr": phoneme_recognition,
    "sd": speaker_diarization,
}


def split_of(name: str) -> str:
    """The split of a file or speaker, determined by its name alone."""
    position = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8
    if position < SPLIT_RATIOS["train"]:
        return "train"
    return "valid" if position < SPLIT_RATIOS["train"] + SPLIT_RATIOS["valid"] else "test"


def speech_segments(waveform: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Speech segments of a single speaker by loudness: (start, end) in seconds."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, FRAME_LENGTH)[::FRAME_SHIFT]
    level = 10 * np.log10((frames.astype(np.float64) ** 2).mean(axis=1) + 1e-10)
    loud = np.flatnonzero(level > np.percentile(level, 95) - BELOW_PEAK)
    step = 1 / FRAMES_PER_SECOND
    runs = np.split(loud, np.flatnonzero(np.diff(loud) > PAUSE / step) + 1)
    return [(run[0] * step, (run[-1] + 1) * step) for run in runs]


def mix(first: NDArray[np.float32], second: NDArray[np.float32], start: int) -> NDArray[np.float32]:
    """Sum two speakers at equal loudness, the second from sample ``start`` on."""
    length = max(len(first), start + len(second))
    total = np.zeros(length, dtype=np.float32)
    for waveform, offset in ((first, 0), (second, start)):
        level = np.sqrt(np.mean(waveform.astype(np.float64) ** 2)) + 1e-8
        total[offset : offset + len(waveform)] += (0.05 / level) * waveform
    return np.clip(total, -1, 1)


def _mixed(item: tuple[Path, Path, Path, int]) -> dict:
    path, first, second, index = item
    rng = np.random.default_rng([2, index])
    samples = round(SPEECH_SECONDS * SAMPLE_RATE)
    voices = [read_waveform(str(source))[:samples] for source in (first, second)]
    start = int(rng.integers(len(voices[0])))
    waveform = mix(*voices, start)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, SAMPLE_RATE)
    segments = [
        (source.stem.split("-")[0], begin + offset / SAMPLE_RATE, end + offset / SAMPLE_RATE)
        for source, voice, offset in zip((first, second), voices, (0, start), strict=True)
        for begin, end in speech_segments(voice)
    ]
    return {**_clip(path, len(waveform)), "segments": format_segments(segments)}


def _spoken(item: tuple[Path, str, Speaker]) -> dict:
    path, text, speaker = item
    speech = speak(text, speaker)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech.samples, SAMPLE_RATE)
    phones = [phone for _, name in speech.phonemes if (phone := bare_phone(name))]
    row = _clip(path, len(speech.samples))
    return {**row, "tgt_text": " ".join(phones), "src_text": text, "speaker": speaker.name}


def bare_phone(mnemonic: str) -> str:
    """eSpeak's phoneme without stress marks; empty for a pause."""
    phone = mnemonic.strip().strip("',%=")
    audible = any(sign.isalnum() or sign == "@" for sign in phone)
    return phone if audible and not phone.startswith(("_", "|")) else ""


def _clip(path: Path, samples: int) -> dict:
    return {"id": path.stem, "audio": f"clips/{path.name}", "n_frames": num_frames(samples)}


def _row(name: str, path: Path, text: str) -> dict:
    return {"id": name, "audio": str(path.resolve()), "tgt_text": text}


def _folder(data: Path | None, name: str) -> Path:
    if data is None or not (data / name).is_dir():
        raise InputError(f"there is no {data}/{name}; --data must name the folder that holds it")
    return data / name


def _write_split_by_file(rows: list[dict], out: Path, jobs: int) -> None:
    measured = parallel_map(measure, rows, jobs, out.name)
    for row in measured:
        if "fault" in row:
            print(f"left out {row['id']}: {row['fault']}", file=sys.stderr)
    for split in SPLITS:
        chosen = [r for r in measured if "fault" not in r and split_of(r["id"]) == split]
        write_manifest(out / f"{split}.tsv", chosen)


def prepare(
    data: Path | None, out: Path, tasks: Sequence[str], jobs: int, features: bool = False
) -> None:
    """Write ``out/<task>/{train,valid,test}.tsv``; existing tasks are left unchanged.

    Raises:
        InputError: a corpus is missing or cannot be used.
    """
    for task in tasks:
        folder = out / task
        if not all((folder / f"{split}.tsv").is_file() for split in SPLITS):
            TASKS[task](data, folder, jobs)
        if features and not (folder / FEATURES).is_file():
            cache_features(folder / FEATURES, [folder], jobs=1)


def main(arguments: list[str] | None = None) -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.superb.data", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, help="folder of the corpora")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--jobs", type=int, default=1, help="number of processes")
    parser.add_argument("--features", action="store_true", help="cache filterbanks")
    args = parser.parse_args(arguments)
    with command_line():
        prepare(args.data, args.out, args.tasks, args.jobs, args.features)


if __name__ == "__main__":
    main()
