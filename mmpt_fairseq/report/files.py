"""Report on a checkpoint's output for given files: ``mmpt-report CHECKPOINT FILE...``.

Stage 1 reconstructs a masked clip; stages 2 and 3 decode text, aligned with the audio.
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
    FRAMES_PER_SECOND,
    floored_filterbank,
    num_frames,
)
from mmpt_fairseq.data.manifest import write_manifest
from mmpt_fairseq.data.waveform import (
    SAMPLE_RATE,
    check_file,
    read_waveform,
    split_slice,
    to_flac,
)
from mmpt_fairseq.data.waveform_stream import until_fault
from mmpt_fairseq.extensions import task_class, why_no_reconstruction
from mmpt_fairseq.report import configs
from mmpt_fairseq.report.alignment import align
from mmpt_fairseq.report.clips import AudioClip
from mmpt_fairseq.report.figures import SvgFigure, alignment, reconstruction
from mmpt_fairseq.report.probes import Probe
from mmpt_fairseq.report.reconstruction import reconstruct_row
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingTask
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask
from mmpt_fairseq.transcription.features import cut_recording, to_piece
from mmpt_fairseq.transcription.model import DEFAULT_PIECE_SECONDS, SpeechModel, load
from mmpt_fairseq.transcription.search import Search, SearchOptions
from mmpt_fairseq.transcription.segments import AudioSegment

UNSUPPORTED = re.compile("[\t\r\n\ud800-\udfff]")  # surrogates stand for bytes that are not UTF-8
MAX_PIECES = 6  # segments of a long recording on a page, of up to 20 s each


@dataclass
class FileResult:
    """Output for a file, or for a segment of a long one.

    Attributes:
        text: decoded text; None in stage 1.
        audio: the model's input; None if the file has no audio or it is not used.
        note: a remark to show, such as why the file cannot be used or that it continues.
    """

    name: str
    text: str | None = None
    audio: AudioClip | None = None
    figures: list[SvgFigure] = field(default_factory=list)
    note: str = ""


@dataclass
class FilesPage:
    """The report's content; ``errors`` are the messages about files that cannot be used."""

    template: ClassVar[str] = "files"
    title: str
    created: str
    checkpoint: str
    stage_1: bool
    files: int
    results: list[FileResult]
    errors: list[str]
    versions: dict[str, str]


def collect_files(checkpoint: Path, paths: Sequence[Path], language: str | None) -> FilesPage:
    """Run a checkpoint on each file; files that cannot be used are reported and skipped.

    Args:
        language: target language, for a multilingual model.

    Raises:
        InputError: the checkpoint cannot be visualised, or no file can be used.
    """
    check_reconstructs(checkpoint)
    model = load(checkpoint, "cpu")
    if isinstance(model.task, AVPretrainingTask):
        show = partial(masked_file, model)
    elif isinstance(model.task, ManifestSpeechToTextTask):
        search = Search(model.model, model.task, SearchOptions(language=language))
        show = partial(aligned_file, model, search)
    else:
        raise InputError(
            f"{checkpoint} belongs to none of the stages; give a checkpoint of stage 1, 2 or 3"
        )
    results, errors = [], []
    for path in tqdm(paths, desc="processed", unit="file", disable=len(paths) == 1):
        try:
            check_name(path)
            results += show(path)
        except UnreadableClip as fault:
            errors.append(str(fault))
            results.append(FileResult(UNSUPPORTED.sub("?", str(path)), note=str(fault)))
    if len(errors) == len(paths):
        none = f"none of the {len(paths)} files can be used: " if len(paths) > 1 else ""
        raise InputError(none + errors[0])
    return FilesPage(
        title=f"{checkpoint.name} on {paths[0].name if len(paths) == 1 else 'files'}",
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        checkpoint=str(checkpoint),
        stage_1=isinstance(model.task, AVPretrainingTask),
        files=len(paths),
        results=results,
        errors=errors,
        versions=configs.versions(),
    )


def check_reconstructs(checkpoint: Path) -> None:
    """Raise InputError for a stage 1 checkpoint that was not trained to reconstruct."""
    state = load_checkpoint(checkpoint)
    name, criterion = (str(settings_of(state, p).get("_name")) for p in ("task", "criterion"))
    if not issubclass(task_class(name, checkpoint), AVPretrainingTask):
        return
    if reason_missing := why_no_reconstruction(criterion):
        raise InputError(
            f"{checkpoint} has nothing to show: {reason_missing}; give one trained with "
            "mmpt_masked_reconstruction or a criterion that includes it"
        )


def check_name(path: Path) -> None:
    """Raise UnreadableClip for a path that neither a manifest nor a page can represent."""
    if UNSUPPORTED.search(str(path.resolve())):
        raise UnreadableClip(
            f"{str(path)!a} has a tab, a line break or non-UTF-8 bytes in its path; rename it"
        )


def masked_file(model: SpeechModel, path: Path) -> Iterator[FileResult]:
    """Reconstruct a masked clip as in stage 1's validation, which takes its first seconds.

    Raises:
        UnreadableClip: it cannot be read, or has no modality that the model takes.
    """
    row = manifest_row(path, model.task.cfg.max_audio_frames)
    if not model.task.cfg.use_video:
        row["video"] = ""
        if not row["audio"]:
            raise UnreadableClip(f"{path} has no audio, which is all that this model takes")
    with TemporaryDirectory() as folder, input_error_on_exit():
        write_manifest(Path(folder) / "file.tsv", [row])
        model.task.cfg.data = folder
        model.task.cfg.decodes_with = model.path  # the task then treats no split as training data
        model.task.load_dataset("file")
        clip = reconstruct_row(Probe(model.model, model.task, model.task.dataset("file")), 0)
    audio = AudioClip(to_flac(read_waveform(row["audio"]))) if row["audio"] else None
    yield FileResult(str(path), audio=audio, figures=reconstruction(clip, str(path)))


def manifest_row(path: Path, frames: int) -> dict[str, object]:
    """The manifest row of a file for stage 1, with its audio cut to ``frames`` filterbank frames.

    Raises:
        UnreadableClip: the file does not exist or is damaged.
    """
    check_file(str(path))
    if split_slice(str(path))[0] != str(path):
        raise UnreadableClip(f"the name of {path} ends like a slice of a recording; rename it")
    recording = inspect(str(path.resolve()))
    if recording.fault or recording.cut_off:
        reason, detail = recording.fault or ("", recording.cut_off)
        raise UnreadableClip(f"{path} cannot be used: {detail or reason}")
    samples = round(recording.samples * SAMPLE_RATE / recording.rate) if recording.rate else 0
    audio = video = ""
    if recording.rate:
        # Avoids decoding hours of audio for the first seconds.
        kept = -(-(frames * FRAME_SHIFT + FRAME_LENGTH) * recording.rate // SAMPLE_RATE)
        part = f":0:{kept}" if kept < recording.samples else ""
        audio = f"{path.resolve()}{part}"
    if recording.video_frames:
        video = path.resolve()
    return {
        "id": path.name,
        "audio": audio,
        "n_frames": num_frames(samples),
        "video": video,
        "video_frames": recording.video_frames,
    }


def aligned_file(model: SpeechModel, search: Search, path: Path) -> Iterator[FileResult]:
    """Decode a file in segments, as for transcription, and align the text of each.

    Raises:
        UnreadableClip: it cannot be read, or has no audio.
    """
    limit = model.task.cfg.max_source_positions / FRAMES_PER_SECOND
    pieces = cut_recording(str(path), min(DEFAULT_PIECE_SECONDS, limit))
    faults: list[UnreadableClip] = []
    found = list(until_fault(itertools.islice(pieces, MAX_PIECES + 1), faults))
    if faults and not found:
        raise faults[0]
    shown = found[:MAX_PIECES]
    for segment in shown:
        name = str(path)
        if len(found) > 1:
            start, end = segment.start, segment.start + len(segment.waveform)
            name += f", {start / SAMPLE_RATE:.1f} to {end / SAMPLE_RATE:.1f} s"
        one = aligned_piece(model, search, segment, name)
        if segment is shown[-1] and len(found) > len(shown):
            one.note = f"{one.note} The file continues; mmpt-transcribe decodes all of it.".strip()
        if segment is shown[-1] and faults:
            one.note = f"{one.note} {faults[0]}; this is what can be read.".strip()
        yield one


def aligned_piece(
    model: SpeechModel, search: Search, segment: AudioSegment, name: str
) -> FileResult:
    """Decode and plot one segment; a silent one has no text and no figure."""
    piece = to_piece(segment, name)
    audio = AudioClip(to_flac(segment.waveform))
    if piece.silent:
        return FileResult(name, "", audio, note="Silent, so nothing is decoded.")
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
    return FileResult(name, text, audio, [alignment(clip, name)])
