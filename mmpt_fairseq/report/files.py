"""What a checkpoint makes of files: ``mmpt-report CHECKPOINT FILE...``.

Stage 1 fills in what is masked of a clip; stages 2 and 3 write text, aligned with the sound.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import torch
from tqdm import tqdm

from manifests.errors import InputError, UnreadableClip, input_error_on_exit
from manifests.recording import inspect
from mmpt_fairseq.checkpoint import load_checkpoint, settings_of
from mmpt_fairseq.data.audio import (
    FRAME_LENGTH,
    FRAME_SHIFT,
    FRAMES_A_SECOND,
    floored_filterbank,
    num_frames,
)
from mmpt_fairseq.data.manifest import write_manifest
from mmpt_fairseq.data.waveform import SAMPLE_RATE, check_file, read_waveform, to_flac
from mmpt_fairseq.extensions import task_class, why_no_reconstruction
from mmpt_fairseq.report import configs
from mmpt_fairseq.report.alignment import align
from mmpt_fairseq.report.clips import Sound
from mmpt_fairseq.report.figures import Picture, alignment, reconstruction
from mmpt_fairseq.report.probes import Probe
from mmpt_fairseq.report.reconstruction import reconstruct_row
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingTask
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask
from mmpt_fairseq.transcription.features import cuts, heard
from mmpt_fairseq.transcription.model import LONGEST_PIECE, SpeechModel, load
from mmpt_fairseq.transcription.search import Search, SearchOptions
from mmpt_fairseq.transcription.segments import SoundSegment

UNNAMEABLE = re.compile("[\t\r\n\ud800-\udfff]")  # the last: bytes that are not UTF-8
MOST_PIECES = 6  # of a long recording on a page; each may last 20 s


@dataclass
class Shown:
    """A file, or a piece of a long one.

    Attributes:
        text: what the model writes; None in stage 1.
        sound: what was heard; None where the file holds none or none is used.
        note: what is to be said of it: why it cannot be used, how it goes on.
    """

    name: str
    text: str | None = None
    sound: Sound | None = None
    pictures: list[Picture] = field(default_factory=list)
    note: str = ""


@dataclass
class FilesPage:
    """The page; ``faults`` are the sentences of the files that cannot be used."""

    template: ClassVar[str] = "files"
    title: str
    created: str
    checkpoint: str
    stage_1: bool
    files: int
    shown: list[Shown]
    faults: list[str]
    versions: dict[str, str]


def collect_files(checkpoint: Path, paths: Sequence[Path], language: str | None) -> FilesPage:
    """Draw what a checkpoint makes of each file; one that cannot be used is said and passed over.

    Args:
        language: of the text, for a model that writes several.

    Raises:
        InputError: the checkpoint draws nothing, or no file can be used.
    """
    refuse_without_reconstruction(checkpoint)
    model = load(checkpoint, "cpu")
    if isinstance(model.task, AVPretrainingTask):
        show = partial(masked_file, model)
    elif isinstance(model.task, ManifestSpeechToTextTask):
        search = Search(model.model, model.task, SearchOptions(language=language))
        show = partial(aligned_file, model, search)
    else:
        raise InputError(f"{checkpoint} is of no stage; give a checkpoint of stage 1, 2 or 3")
    shown, faults = [], []
    for path in tqdm(paths, desc="drawn", unit="file", disable=len(paths) == 1):
        try:
            check_name(path)
            shown += show(path)
        except UnreadableClip as fault:
            faults.append(str(fault))
            shown.append(Shown(UNNAMEABLE.sub("?", str(path)), note=str(fault)))
    if len(faults) == len(paths):
        none = f"none of the {len(paths)} files can be used: " if len(paths) > 1 else ""
        raise InputError(none + faults[0])
    return FilesPage(
        title=f"{checkpoint.name} on {paths[0].name if len(paths) == 1 else 'files'}",
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        checkpoint=str(checkpoint),
        stage_1=isinstance(model.task, AVPretrainingTask),
        files=len(paths),
        shown=shown,
        faults=faults,
        versions=configs.versions(),
    )


def refuse_without_reconstruction(checkpoint: Path) -> None:
    """Raise InputError for a checkpoint of stage 1 that has never learnt to reconstruct."""
    state = load_checkpoint(checkpoint)
    name, criterion = (str(settings_of(state, p).get("_name")) for p in ("task", "criterion"))
    if not issubclass(task_class(name, checkpoint), AVPretrainingTask):
        return
    if why_not := why_no_reconstruction(criterion):
        raise InputError(
            f"{checkpoint} shows nothing: {why_not}; give one that was trained by "
            "mmpt_masked_reconstruction or with it"
        )


def check_name(path: Path) -> None:
    """Raise UnreadableClip for a name that neither a manifest nor a page can hold."""
    if UNNAMEABLE.search(str(path.resolve())):
        raise UnreadableClip(
            f"{str(path)!a} has a tab, a line break or what is not UTF-8 in its name; rename it"
        )


def masked_file(model: SpeechModel, path: Path) -> Iterator[Shown]:
    """A clip as stage 1's validation sees it: its first seconds, and pictures of these.

    Raises:
        UnreadableClip: it cannot be read, or holds nothing that the model takes.
    """
    row = manifest_row(path, model.task.cfg.max_audio_frames)
    if not model.task.cfg.use_video:
        row["video"] = ""
        if not row["audio"]:
            raise UnreadableClip(f"{path} has no sound, and the model takes nothing else")
    with TemporaryDirectory() as folder, input_error_on_exit():
        write_manifest(Path(folder) / "file.tsv", [row])
        model.task.cfg.data = folder
        model.task.cfg.decodes_with = model.path  # tells the task that nothing is trained on
        model.task.load_dataset("file")
        clip = reconstruct_row(Probe(model.model, model.task, model.task.dataset("file")), 0)
    sound = Sound(to_flac(read_waveform(row["audio"]))) if row["audio"] else None
    yield Shown(str(path), sound=sound, pictures=reconstruction(clip, str(path)))


def manifest_row(path: Path, frames: int) -> dict[str, object]:
    """The row that describes a file to stage 1, with only as much sound as ``frames`` need.

    Raises:
        UnreadableClip: no such file, or it is damaged.
    """
    check_file(str(path))
    recording = inspect(str(path.resolve()))
    if recording.fault or recording.cut_off:
        reason, detail = recording.fault or ("", recording.cut_off)
        raise UnreadableClip(f"{path} cannot be used: {detail or reason}")
    samples = round(recording.samples * SAMPLE_RATE / recording.rate) if recording.rate else 0
    audio = video = ""
    if recording.rate:
        # A file of hours is not to be decoded for its first seconds.
        kept = -(-(frames * FRAME_SHIFT + FRAME_LENGTH) * recording.rate // SAMPLE_RATE)
        part = f":0:{kept}" if kept < recording.samples else ""
        audio = f"{path.resolve()}{part}"
    if recording.pictures:
        video = path.resolve()
    return {
        "id": path.name,
        "audio": audio,
        "n_frames": num_frames(samples),
        "video": video,
        "video_frames": recording.pictures,
    }


def aligned_file(model: SpeechModel, search: Search, path: Path) -> Iterator[Shown]:
    """A file's pieces, cut as for transcription: what is written, and what is heard when.

    Raises:
        UnreadableClip: it cannot be read, or holds no sound.
    """
    limit = model.task.cfg.max_source_positions / FRAMES_A_SECOND
    found = list(itertools.islice(cuts(str(path), min(LONGEST_PIECE, limit)), MOST_PIECES + 1))
    shown = found[:MOST_PIECES]
    for segment in shown:
        name = str(path)
        if len(found) > 1:
            start, end = segment.start, segment.start + len(segment.waveform)
            name += f", {start / SAMPLE_RATE:.1f} to {end / SAMPLE_RATE:.1f} s"
        one = aligned_piece(model, search, segment, name)
        if segment is shown[-1] and len(found) > len(shown):
            one.note = f"{one.note} The file goes on; mmpt-transcribe writes it all.".strip()
        yield one


def aligned_piece(model: SpeechModel, search: Search, segment: SoundSegment, name: str) -> Shown:
    """One piece decoded and drawn; silence has no words and no picture."""
    piece = heard(segment, name)
    sound = Sound(to_flac(segment.waveform))
    if piece.silent:
        return Shown(name, "", sound, note="It is silent: nothing is decoded.")
    [hypothesis] = search.hypotheses([piece.features])
    source = torch.from_numpy(piece.features)[None]
    clip = align(
        model.model,
        search.dictionary,
        floored_filterbank(segment.waveform, name),
        {"src_tokens": source, "src_lengths": torch.tensor([source.size(1)])},
        [t for t in hypothesis["tokens"].tolist() if t != search.dictionary.eos()],
        search.prefix,
    )
    text = " ".join(word.text for word in search.words(hypothesis))
    return Shown(name, text, sound, [alignment(clip, name)])
