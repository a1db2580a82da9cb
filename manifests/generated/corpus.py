"""Generate the whole corpus: the assignment to splits, the clips, the manifests, the checks."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path

from ..common import atomic_path, parallel_map, remove_stale
from ..errors import InputError
from .clip import Clip, ClipResult, make_clip
from .grammar import MAX_WORDS, MIN_WORDS, Sentence, frequent_words, phrases, sentences
from .parallel_text import parallel_text
from .speech import SAMPLE_RATE, draw_speakers, require_espeak

_FORMAT = 1  # incremented when the same settings produce different clips
MIN_VOCABULARY = 100  # fewer words leave hardly any sentences

Row = dict[str, object]


@dataclass(frozen=True)
class Settings:
    """Everything that determines the bytes of the corpus; counts are numbers of clips."""

    seed: int = 1
    size: int = 64
    speakers: int = 60
    pretrain: int = 1500
    pretrain_valid: int = 60
    translated: int = 3000
    translated_valid: int = 100
    translated_test: int = 200
    transcribed: int = 300
    transcribed_valid: int = 60
    test: int = 300
    text: Path | None = None
    max_words: int = MAX_WORDS
    vocabulary: int = 0  # number of English words used; 0: all words of the grammar
    phrases: int = 0
    plain_speech: bool = False

    def splits(self) -> dict[tuple[str, str], int]:
        """Number of clips per (part, split)."""
        return {
            ("pretrain", "train"): self.pretrain,
            ("pretrain", "valid"): self.pretrain_valid,
            ("st", "train"): self.translated + self.phrases,
            ("st", "valid"): self.translated_valid,
            ("st", "test"): self.translated_test,
            ("asr", "train"): self.transcribed,
            ("asr", "valid"): self.transcribed_valid,
            ("asr", "test"): self.test,
        }

    def check(self) -> None:
        """Raise InputError for settings that cannot work."""
        if min(*self.splits().values(), self.phrases, self.translated) < 0:
            raise InputError("The number of clips of a split cannot be negative.")
        if self.size < 16 or self.size % 2:
            raise InputError(f"--size must be even and at least 16, not {self.size}.")
        if self.speakers < 2:
            raise InputError(
                "--speakers must be at least 2: some are held out for the test splits."
            )
        if not MIN_WORDS < self.max_words <= MAX_WORDS:
            raise InputError(
                f"--max-words must be from {MIN_WORDS + 1} to {MAX_WORDS}, not {self.max_words}."
            )
        if self.vocabulary < 0 or 0 < self.vocabulary < MIN_VOCABULARY:
            raise InputError(
                f"--vocabulary must be 0 (all words) or at least {MIN_VOCABULARY}, not "
                f"{self.vocabulary}."
            )
        if self.text and (self.phrases or self.vocabulary):
            raise InputError(
                "--phrases and --vocabulary apply to the grammar and cannot be used with --text."
            )
        if self.text and not self.text.is_file():
            raise InputError(f"--text: there is no file {self.text}.")

    def record(self) -> dict[str, object]:
        """The settings as stored beside the clips; a text is stored as a hash of its content."""
        content = json.dumps(parallel_text(self.text)) if self.text else ""
        text = hashlib.sha256(content.encode()).hexdigest() if content else None
        return {"format": _FORMAT, **asdict(self), "text": text}


@dataclass(frozen=True)
class Item:
    """A clip with its sentence, and the part and split that it belongs to."""

    part: str  # pretrain, st or asr
    split: str
    sentence: Sentence
    clip: Clip


def write_corpus(out: Path, settings: Settings, jobs: int | None) -> str:
    """Write or complete a corpus under `out`; return a summary."""
    settings.check()
    require_espeak()
    items = plan(out, settings)
    check_plan(items, settings)
    _store_or_compare(out, settings)
    remove_stale(out)
    results = parallel_map(make_clip, [item.clip for item in items], max(1, jobs or 1), "clips")
    rows = manifests(items, results)
    check_clips(rows)
    # Imported here because it imports fairseq, which the clips do not need.
    from mmpt_fairseq.data.manifest import write_manifest

    for name, table in rows.items():
        write_manifest(out / name, table)
    return summary(items, results)


def _store_or_compare(out: Path, settings: Settings) -> None:
    """Store the settings in the folder, or check that they equal those stored there."""
    path, record = out / "corpus.json", settings.record()
    if path.exists():
        stored = json.loads(path.read_text())
        names = sorted(k for k in stored | record if stored.get(k) != record.get(k))
        if names:
            differ = ", ".join(f"{k}: {stored.get(k)} stored, {record.get(k)} now" for k in names)
            raise InputError(f"{out} holds a corpus with different settings ({differ}).")
        return
    if (out / "clips").exists():
        raise InputError(f"{out} holds clips but no corpus.json with their settings.")
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n")


def plan(out: Path, settings: Settings) -> list[Item]:
    """Assign each clip a unique sentence and a speaker; test speakers occur in no other split."""
    speakers = draw_speakers(settings.seed, settings.speakers)
    held_out = max(1, settings.speakers // 6)
    test_speakers, other_speakers = speakers[:held_out], speakers[held_out:]
    splits = settings.splits()
    texts = iter(_texts(settings, sum(splits.values())))
    items = []
    for (part, split), count in splits.items():
        for i in range(count):
            name = f"{part}_{split}_{i:06d}"
            pool = test_speakers if split == "test" else other_speakers
            speaker = random.Random(f"speaker {settings.seed} {name}").choice(pool)
            sentence = next(texts)
            suffix = "flac" if settings.plain_speech and part != "pretrain" else "mp4"
            path = out / "clips" / f"{part}_{split}" / f"{name}.{suffix}"
            clip = Clip(name, path, sentence["en"], speaker, settings.seed, settings.size)
            items.append(Item(part, split, sentence, clip))
    return items


def _texts(settings: Settings, count: int) -> list[Sentence]:
    """A text per clip, split by split; phrases come last in the translated training split."""
    if settings.text is None:
        n_sentences = count - settings.phrases
        words = frequent_words(settings.vocabulary) if settings.vocabulary else ()
        full = sentences(settings.seed, n_sentences, max_words=settings.max_words, words=words)
        used = {text["en"] for text in full}
        short = phrases(settings.seed, settings.phrases, used, words)
        position = settings.pretrain + settings.pretrain_valid + settings.translated
        return full[:position] + short + full[position:]
    found, unused = parallel_text(settings.text)
    if unused:
        print(f"{unused} lines of {settings.text} skipped: empty or duplicate", file=sys.stderr)
    if len(found) < count:
        raise InputError(
            f"{settings.text} has {len(found)} distinct English lines, fewer than the {count} "
            "clips requested."
        )
    ordered = sorted(found, key=itemgetter("en"))
    random.Random(f"text {settings.seed}").shuffle(ordered)
    return ordered[:count]


def manifests(items: list[Item], results: list[ClipResult]) -> dict[str, list[Row]]:
    """Manifest rows by file name relative to the corpus; the target languages share their clips."""
    # Imported here because it imports fairseq, which the clips do not need.
    from mmpt_fairseq.data.audio import num_frames

    tables: dict[str, list[Row]] = {}
    for item, result in zip(items, results, strict=True):
        english = item.sentence["en"]
        targets = [lang for lang in item.sentence if lang != "en"]
        if item.part == "pretrain":
            views = [("pretrain", "", "", "")]
        elif item.part == "asr":
            views = [("asr", english, english, "en")]
        else:
            views = [(f"st_en-{lang}", item.sentence[lang], english, lang) for lang in targets]
        for folder, target, source, lang in views:
            name = f"{folder}/{item.split}.tsv"
            row = {"n_frames": num_frames(result.samples), **_row(item, target, source, lang)}
            row |= {"video": row["audio"] if result.frames else "", "video_frames": result.frames}
            tables.setdefault(name, []).append(row)
    return tables


def _row(item: Item, target: str, source: str, lang: str) -> Row:
    return {
        "id": item.clip.id,
        "audio": f"../clips/{item.clip.path.parent.name}/{item.clip.path.name}",
        "tgt_text": target,
        "speaker": item.clip.speaker.name,
        "src_text": source,
        "src_lang": "en",
        "tgt_lang": lang,
    }


def check_plan(items: list[Item], settings: Settings) -> None:
    """Check the plan before synthesis: counts, translations, disjoint sentences and test speakers.

    Raises:
        InputError: a check failed.
    """
    planned = Counter((item.part, item.split) for item in items)
    for (part, split), count in settings.splits().items():
        if planned[part, split] != count:
            raise InputError(f"The clips of {part} {split} are not the {count} requested.")
    if any(item.part == "st" and len(item.sentence) < 2 for item in items):
        raise InputError(
            f"{settings.text} has no language but English to translate into; add a column, or pass "
            "--translated 0 --translated-valid 0 --translated-test 0."
        )
    texts = [item.sentence["en"] for item in items]
    if len(set(texts)) != len(texts):
        raise InputError("A sentence occurs in two clips.")
    test_voices = {item.clip.speaker.voice for item in items if item.split == "test"}
    if test_voices & {item.clip.speaker.voice for item in items if item.split != "test"}:
        raise InputError("A speaker of the test splits also occurs in another split.")


def check_clips(tables: dict[str, list[Row]]) -> None:
    """Check that every clip has audio and, unless it is a FLAC, video.

    Raises:
        InputError: a clip lacks one of them.
    """
    for row in (row for table in tables.values() for row in table):
        if row["n_frames"] < 1 or (row["video_frames"] < 1 and not row["audio"].endswith(".flac")):
            raise InputError(f"The clip {row['id']} has no audio or no video.")


def summary(items: list[Item], results: list[ClipResult]) -> str:
    """One line with the numbers of clips, hours, speakers and words."""
    seconds = sum(result.samples for result in results) / SAMPLE_RATE
    words = [word for item in items for word in item.sentence["en"].split()]
    reused = sum(result.reused for result in results)
    return (
        f"{len(items)} clips ({reused} of them reused), {seconds / 3600:.2f} hours, "
        f"{len({item.clip.speaker for item in items})} speakers, {len(words)} words, "
        f"{len(set(words))} of them distinct"
    )
