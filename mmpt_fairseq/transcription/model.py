"""A checkpoint of any stage, ready to hear files: ``mmpt_fairseq.load``."""

import itertools
import logging
from collections.abc import Iterable, Iterator
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
from mmpt_fairseq.data.audio import FRAMES_A_SECOND
from mmpt_fairseq.data.waveform_stream import Source, as_source, duration
from mmpt_fairseq.extensions import task_class
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
Sound = AnyPath | Array
OURS = AVPretrainingTask, ManifestSpeechToTextTask, SuperbTask
LONGEST_PIECE = 20.0  # seconds
BATCHES_AHEAD = 4  # pieces of so many batches are sorted by length, so that little is padded


def load(checkpoint: AnyPath, device: str | None = None) -> "SpeechModel":
    """The model in a checkpoint of any stage; nothing but the file is needed.

    Args:
        device: by default a GPU where there is one.

    Raises:
        InputError: no checkpoint of ours, or one that holds code (none is run).
    """
    state = load_checkpoint(checkpoint)
    name = settings_of(state, "task").get("_name")
    if not issubclass(task_class(str(name), checkpoint), OURS):
        remedy = "; it is for fairseq-generate's --lm-path" if name == "language_modeling" else ""
        raise InputError(f"{checkpoint} is of the task {name}, not of mmpt_fairseq{remedy}")
    with input_error_on_exit():
        [model], cfg, task = checkpoint_utils.load_model_ensemble_and_task(
            [str(checkpoint)], state=state
        )
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
        model: fairseq's, in evaluation mode.
        task: fairseq's, without data.
        cfg: the model's part of the config that it was trained with.
        path: of the checkpoint.
    """

    def __init__(
        self, model: BaseFairseqModel, task: FairseqTask, cfg: DictConfig, path: str
    ) -> None:
        self.model, self.task, self.cfg, self.path = model, task, cfg, path

    @property
    def encoder(self) -> ConformerEncoder:
        """Convolutional subsampling and Conformer, of whichever stage.

        Raises:
            InputError: the model has none of ours.
        """
        encoder = getattr(getattr(self.model, "encoder", self.model), "audio_encoder", None)
        if encoder is None:
            raise InputError(f"{self.path} holds no audio encoder; give a checkpoint of stage 1-3")
        return encoder

    def transcribe(
        self, sound: Sound | Iterable[Sound], **options
    ) -> Transcript | list[Transcript]:
        """What is said in a recording, or in each of several that are decoded together.

        Args:
            sound: a path; or samples ``(samples,)``, floats in [-1, 1] or int16, with their
                ``rate`` among the options; or several of either.
            options: as of :meth:`transcribe_each`.

        Where some of a recording can be read, its transcript has a ``fault`` that says what not.

        Raises:
            UnreadableClip: a recording cannot be read (:meth:`transcribe_each` goes on instead).
            InputError: the model is no recogniser, or cannot follow the options.
        """
        several = isinstance(sound, Iterable) and not _is_one(sound)
        transcripts = []
        for transcript in self.transcribe_each(sound if several else [sound], **options):
            if isinstance(transcript, UnreadableClip):
                raise transcript
            if transcript.fault:
                logger.warning("%s", transcript.fault)
            transcripts.append(transcript)
        return transcripts if several else transcripts[0]

    def transcribe_each(
        self,
        sounds: Iterable[Sound],
        batch_size: int = 8,
        longest: float | None = None,
        progress: bool = False,
        rate: int | None = None,
        **search,
    ) -> Iterator[Transcript | UnreadableClip]:
        """The transcript of each recording in the order given, or why there is none.

        Args:
            sounds: as of :meth:`transcribe`; a transcript's ``path`` is ``samples 1`` for an array
                that comes first.
            batch_size: pieces decoded at once; changes speed and memory, not what is found.
            longest: seconds; what lasts longer is cut where it is quietest. By default 20, or the
                model's limit if that is less.
            progress: show a bar on stderr.
            rate: of arrays, in Hz.
            search: ``decoding``, ``beam``, ``language``, ``lm_path``, ``lm_weight`` and
                ``ctc_weight``, as of :class:`~mmpt_fairseq.transcription.search.SearchOptions`.

        Raises:
            InputError: the model is no recogniser, or cannot follow the options.
        """
        if _is_one(sounds):
            sounds = [sounds]
        if not isinstance(self.task, ManifestSpeechToTextTask):
            stage_1 = isinstance(self.task, AVPretrainingTask)
            kind = "stage 1" if stage_1 else type(self.task).__name__
            raise InputError(
                f"{self.path} is of {kind}, which learns no text; give a checkpoint of stage 3 "
                "(or 2, to translate)"
            )
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1")
        limit = self.task.cfg.max_source_positions / FRAMES_A_SECOND
        if longest is None:
            longest = min(LONGEST_PIECE, limit)
        if not 1 <= longest <= limit:
            raise InputError(
                f"pieces of {longest:g} s are not between 1 s and the model's {limit:g} s"
            )
        finder = Search(self.model, self.task, SearchOptions(**search))
        sources = [
            as_source(sound, rate, f"samples {number}")
            for number, sound in enumerate(sounds, start=1)
        ]
        return self._transcribe_each(sources, batch_size, longest, finder, progress)

    def _transcribe_each(
        self, sources: list[Source], batch_size: int, longest: float, search: Search, progress: bool
    ) -> Iterator[Transcript | UnreadableClip]:
        events, said = _events(sources, longest), []
        with _bar(sources, progress) as bar:
            while window := list(itertools.islice(events, BATCHES_AHEAD * batch_size)):
                heard = [event for event in window if isinstance(event, Piece)]
                words = iter(_decode(heard, batch_size, search, bar))
                for event in window:
                    if isinstance(event, Piece):
                        said.append(Segment(event.start, event.end, next(words)))
                        continue
                    if event.fault is None or said:
                        yield Transcript(event.name, said, str(event.fault or ""))
                    else:
                        yield event.fault
                    said = []

    def extract_features(
        self, sound: Sound, layer: int | None = None, rate: int | None = None
    ) -> NDArray[np.float32]:
        """What the encoder makes of sound: ``(frames, width)``, frame i at ``0.04 * i`` s of it.

        What lasts more than 20 s is cut where it is quietest, as for transcription. Each piece is
        normalised and encoded by itself: no frame knows of another piece's sound.

        Args:
            sound: a path, or samples ``(samples,)``, floats in [-1, 1] or int16, of ``rate`` Hz.
            layer: 0 before the first Conformer layer, n after the n-th; by default the last.

        Raises:
            UnreadableClip: it cannot be read.
            InputError: there is no such layer, or ``sound`` is neither.
        """
        number = len(self.encoder.layers)
        if layer is not None and not 0 <= layer <= number:
            raise InputError(f"layer {layer} is not between 0 and the encoder's {number}")
        device = next(self.model.parameters()).device
        states = []
        with torch.inference_mode():
            for piece in pieces(as_source(sound, rate, "samples"), LONGEST_PIECE):
                features = torch.from_numpy(piece.features)[None].to(device)
                lengths = torch.tensor([features.size(1)], device=device)
                encoded = self.encoder(features, lengths, keep_layers=layer is not None)
                kept = encoded.states if layer is None else encoded.layers[layer]
                states.append(kept[0].float().cpu().numpy())
        return np.concatenate(states)


def _is_one(sound: object) -> bool:
    """Whether it is one recording, not several: a path, or an array of numbers."""
    if isinstance(sound, (str, bytes, Path)):
        return True
    of_paths = getattr(getattr(sound, "dtype", None), "kind", "f") in "OU"
    return hasattr(sound, "__array__") and not of_paths


@dataclass(frozen=True)
class End:
    """Of a recording; ``fault`` is what kept some of it, or all, from being read."""

    name: str
    fault: UnreadableClip | None = None


def _events(sources: list[Source], longest: float) -> Iterator[Piece | End]:
    """The pieces of each recording, then its end."""
    for source in sources:
        try:
            yield from pieces(source, longest)
            yield End(str(source))
        except UnreadableClip as fault:
            yield End(str(source), fault)


def _decode(heard: list[Piece], batch_size: int, search: Search, bar: tqdm) -> list[list[Word]]:
    """The words of each piece, decoded in batches of similar length; none where it is silent."""
    words: list[list[Word]] = [[] for _ in heard]
    loud = [i for i, piece in enumerate(heard) if not piece.silent]
    loud.sort(key=lambda i: len(heard[i].features), reverse=True)
    for first in range(0, len(loud), batch_size):
        batch = loud[first : first + batch_size]
        found = search([heard[i].features for i in batch])
        for i, said in zip(batch, found, strict=True):
            words[i] = [word.later(heard[i].start, heard[i].end) for word in said]
            _advance(bar, heard[i])
    for piece in heard:
        if piece.silent:
            _advance(bar, piece)
    return words


def _advance(bar: tqdm, piece: Piece) -> None:
    """By a piece; where a header promised less sound than there is, tqdm would lose its total."""
    seconds = piece.end - piece.start
    bar.update(seconds if bar.total is None else min(seconds, bar.total - bar.n))


def _bar(sources: list[Source], shown: bool) -> tqdm:
    """A bar over seconds of sound, without an end where a header does not say how many."""
    lengths = [duration(source) for source in sources] if shown else []
    known = bool(lengths) and None not in lengths
    heard, done = "{desc}: {n:.0f}", "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    return tqdm(
        total=sum(lengths) if known else None,
        desc="transcribed",
        bar_format=f"{heard} of {{total:.0f}} s {done}" if known else f"{heard} s in {{elapsed}}",
        disable=not shown,
    )
