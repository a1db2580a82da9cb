"""Inference with a checkpoint of any stage: ``mmpt_fairseq.load``."""

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from numpy.typing import NDArray
from omegaconf import DictConfig
from tqdm import tqdm

from manifests.errors import InputError, UnreadableClip, input_error_on_exit
from mmpt_fairseq.checkpoint import load_checkpoint, settings_of
from mmpt_fairseq.data.audio import FRAMES_PER_SECOND
from mmpt_fairseq.data.waveform_stream import Source, as_source, duration
from mmpt_fairseq.extensions import check_model, task_class
from mmpt_fairseq.modules.conformer import ConformerEncoder
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingTask
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask
from mmpt_fairseq.tasks.superb import SuperbTask
from mmpt_fairseq.transcription.features import Piece, pieces
from mmpt_fairseq.transcription.search import Search, SearchOptions
from mmpt_fairseq.transcription.transcript import Segment, Transcript, Word

logger = logging.getLogger(__name__)

AnyPath = str | Path
Array = NDArray[np.floating] | NDArray[np.int16] | torch.Tensor
AudioInput = AnyPath | Array
OURS = AVPretrainingTask, ManifestSpeechToTextTask, SuperbTask
DEFAULT_PIECE_SECONDS = 20.0  # seconds
BATCHES_AHEAD = 4  # number of batches within which pieces are sorted by length to reduce padding


def load(checkpoint: AnyPath, device: str | None = None) -> "SpeechModel":
    """Load the model in a checkpoint of any stage; only the file itself is needed.

    Args:
        device: torch device, by default a GPU if available.

    Raises:
        InputError: not a checkpoint of mmpt_fairseq, or one that contains code (none is run).
    """
    state = load_checkpoint(checkpoint)
    name = settings_of(state, "task").get("_name")
    if not issubclass(task_class(str(name), checkpoint), OURS):
        remedy = "; it is for fairseq-generate's --lm-path" if name == "language_modeling" else ""
        raise InputError(
            f"{checkpoint} is of the task {name}, which is not a task of mmpt_fairseq{remedy}"
        )
    check_model(str(settings_of(state, "model").get("_name")), checkpoint)
    try:
        with input_error_on_exit():
            [model], cfg, task = checkpoint_utils.load_model_ensemble_and_task(
                [str(checkpoint)], state=state
            )
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            raise
        reason = " ".join(str(error).split())
        raise InputError(
            f"the weights in {checkpoint} do not fit the model that its config describes ({reason})"
        ) from None
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the device {device} cannot be used: {reason}") from None
    return SpeechModel(model.eval(), task, cfg.model, str(checkpoint))


class SpeechModel:
    """A model and its task.

    Attributes:
        model: the fairseq model, in evaluation mode.
        task: the fairseq task, without data.
        cfg: the ``model`` part of the training config.
        path: the checkpoint.
    """

    def __init__(
        self, model: BaseFairseqModel, task: FairseqTask, cfg: DictConfig, path: str
    ) -> None:
        self.model, self.task, self.cfg, self.path = model, task, cfg, path

    @property
    def encoder(self) -> ConformerEncoder:
        """The audio encoder (convolutional subsampling and Conformer) of a model of any stage.

        Raises:
            InputError: the model has no such encoder.
        """
        encoder = getattr(getattr(self.model, "encoder", self.model), "audio_encoder", None)
        if encoder is None:
            raise InputError(f"{self.path} has no audio encoder; give a checkpoint of stage 1-3")
        return encoder

    def transcribe(
        self, audio: AudioInput | Iterable[AudioInput], **options
    ) -> Transcript | list[Transcript]:
        """Transcribe a recording, or several that are decoded together.

        If only part of a recording can be read, ``fault`` of its transcript says why.

        Args:
            audio: a path; or samples ``(samples,)``, floats in [-1, 1] or int16, with their
                ``rate`` among the options; or several of either.
            options: those of :meth:`transcribe_each`.

        Raises:
            UnreadableClip: a recording cannot be read (:meth:`transcribe_each` continues instead).
            InputError: the model is not a recogniser, or does not support the options.
        """
        several = isinstance(audio, Iterable) and not _is_single(audio)
        transcripts = []
        for transcript in self.transcribe_each(audio if several else [audio], **options):
            if isinstance(transcript, UnreadableClip):
                raise transcript
            if transcript.fault:
                logger.warning("%s", transcript.fault)
            transcripts.append(transcript)
        return transcripts if several else transcripts[0]

    def transcribe_each(
        self,
        inputs: Iterable[AudioInput],
        batch_size: int = 8,
        longest: float | None = None,
        progress: bool = False,
        rate: int | None = None,
        **search,
    ) -> Iterator[Transcript | UnreadableClip]:
        """Yield the transcript of each recording in the order given, or why there is none.

        Args:
            inputs: as for :meth:`transcribe`; the ``path`` of an array's transcript is ``samples``
                and its number in ``inputs``, from 1. An iterator is read as the work proceeds,
                unless ``progress`` needs the total.
            batch_size: pieces decoded at once; affects speed and memory, not the result.
            longest: seconds; longer recordings are cut at their quietest points. By default
                20, or the model's limit if that is less.
            progress: show a progress bar on stderr.
            rate: sampling rate of arrays in Hz.
            search: ``decoding``, ``beam``, ``language``, ``lm_path``, ``lm_weight`` and
                ``ctc_weight``, see :class:`~mmpt_fairseq.transcription.search.SearchOptions`.

        Raises:
            InputError: the model is not a recogniser, or does not support the options.
        """
        if _is_single(inputs):
            inputs = [inputs]
        if not isinstance(self.task, ManifestSpeechToTextTask):
            stage_1 = isinstance(self.task, AVPretrainingTask)
            kind = "stage 1" if stage_1 else type(self.task).__name__
            raise InputError(
                f"{self.path} is of {kind}, which does not learn text; give a checkpoint of "
                "stage 3 (or 2, to translate)"
            )
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1")
        limit = self.task.cfg.max_source_positions / FRAMES_PER_SECOND
        if longest is None:
            longest = min(DEFAULT_PIECE_SECONDS, limit)
        if not 1 <= longest <= limit:
            raise InputError(
                f"pieces of {longest:g} s are not between 1 s and the model's {limit:g} s"
            )
        decoder = Search(self.model, self.task, SearchOptions(**search))
        sources = (
            as_source(audio, rate, f"samples {number}")
            for number, audio in enumerate(inputs, start=1)
        )
        if progress or isinstance(inputs, Sequence):
            sources = list(sources)  # a wrong one among many is rejected at once
        return self._transcribe_each(sources, batch_size, longest, decoder, progress)

    def _transcribe_each(
        self,
        sources: Iterable[Source],
        batch_size: int,
        longest: float,
        search: Search,
        progress: bool,
    ) -> Iterator[Transcript | UnreadableClip]:
        events, segments = _events(sources, longest), []
        with _bar(sources, progress) as bar:
            while window := list(itertools.islice(events, BATCHES_AHEAD * batch_size)):
                to_decode = [event for event in window if isinstance(event, Piece)]
                words = iter(_decode(to_decode, batch_size, search, bar))
                for event in window:
                    if isinstance(event, Piece):
                        segments.append(Segment(event.start, event.end, next(words)))
                        continue
                    if event.fault is None or segments:
                        yield Transcript(event.name, segments, str(event.fault or ""))
                    else:
                        yield event.fault
                    segments = []

    def extract_features(
        self, audio: AudioInput, layer: int | None = None, rate: int | None = None
    ) -> NDArray[np.float32]:
        """Encoder states of a recording: ``(frames, width)``, frame i at ``0.04 * i`` s.

        Audio of more than 20 s is cut at its quietest points, as for transcription. Each piece is
        normalised and encoded separately: no frame has context from another piece.

        Args:
            audio: a path, or samples ``(samples,)``, floats in [-1, 1] or int16.
            layer: 0 for the input of the first Conformer layer, n for the output of the n-th; by
                default the last.
            rate: sampling rate of samples in Hz.

        Raises:
            UnreadableClip: the audio cannot be read.
            InputError: there is no such layer, or ``audio`` is neither a path nor samples.
        """
        layers = len(self.encoder.layers)
        if layer is not None and not 0 <= layer <= layers:
            raise InputError(f"layer {layer} is not between 0 and the encoder's {layers}")
        device = next(self.model.parameters()).device
        states = []
        with torch.inference_mode():
            for piece in pieces(as_source(audio, rate, "samples"), DEFAULT_PIECE_SECONDS):
                features = torch.from_numpy(piece.features)[None].to(device)
                lengths = torch.tensor([features.size(1)], device=device)
                encoded = self.encoder(features, lengths, keep_layers=layer is not None)
                kept = encoded.states if layer is None else encoded.layers[layer]
                states.append(kept[0].float().cpu().numpy())
        return np.concatenate(states)


def _is_single(audio: object) -> bool:
    """Whether ``audio`` is one recording (a path or a numeric array), not several."""
    if isinstance(audio, (str, bytes, Path)):
        return True
    has_paths = getattr(getattr(audio, "dtype", None), "kind", "f") in "OU"
    return hasattr(audio, "__array__") and not has_paths


@dataclass(frozen=True)
class End:
    """The end of a recording; ``fault`` is the error if it could not be read completely."""

    name: str
    fault: UnreadableClip | None = None


def _events(sources: Iterable[Source], longest: float) -> Iterator[Piece | End]:
    """Yield the pieces of each recording, then its end."""
    for source in sources:
        try:
            yield from pieces(source, longest)
            yield End(str(source))
        except UnreadableClip as fault:
            yield End(str(source), fault)


def _decode(window: list[Piece], batch_size: int, search: Search, bar: tqdm) -> list[list[Word]]:
    """The words of each piece, decoded in batches of similar length; none if it is silent."""
    words: list[list[Word]] = [[] for _ in window]
    audible = [i for i, piece in enumerate(window) if not piece.silent]
    audible.sort(key=lambda i: len(window[i].features), reverse=True)
    for first in range(0, len(audible), batch_size):
        batch = audible[first : first + batch_size]
        found = search([window[i].features for i in batch])
        for i, recognised in zip(batch, found, strict=True):
            words[i] = [word.later(window[i].start, window[i].end) for word in recognised]
            _advance(bar, window[i])
    for piece in window:
        if piece.silent:
            _advance(bar, piece)
    return words


def _advance(bar: tqdm, piece: Piece) -> None:
    """Advance by a piece, but not beyond the total: a header may state too short a duration."""
    seconds = piece.end - piece.start
    bar.update(seconds if bar.total is None else min(seconds, bar.total - bar.n))


def _bar(sources: Iterable[Source], shown: bool) -> tqdm:
    """A progress bar in seconds of audio, without a total if a header lacks the duration."""
    lengths = [duration(source) for source in sources] if shown else []
    known = bool(lengths) and None not in lengths
    position, rest = "{desc}: {n:.0f}", "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    return tqdm(
        total=sum(lengths) if known else None,
        desc="transcribed",
        bar_format=f"{position} of {{total:.0f}} s {rest}"
        if known
        else f"{position} s in {{elapsed}}",
        disable=not shown,
    )
