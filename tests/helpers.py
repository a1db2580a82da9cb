"""Audio, video and manifest writers, and small models shared by tests."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from fairseq.data import Dictionary

from mmpt_fairseq.data.audio import num_frames
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.data.masks import random_mask
from mmpt_fairseq.models.av_pretraining import AVPretrainingModel, AVPretrainingModelConfig
from mmpt_fairseq.models.speech_to_text import SpeechToTextModel, SpeechToTextModelConfig
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingConfig, AVPretrainingTask
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask, SpeechToTextConfig

RATE = 16_000
MILLISECOND = Fraction(1, 1000)
ENCODER_SIZES = {
    "encoder_embed_dim": 16,
    "encoder_layers": 2,
    "encoder_ffn_embed_dim": 32,
    "depthwise_conv_kernel_size": 7,
}
BITS = 16  # of the number encoded in a video frame, as a grid of 4 x 4 cells


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Noise with a varying amplitude, ``(samples,)`` float32."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate)
    envelope = 0.05 + 0.1 * np.sin(np.linspace(0, 20, samples)) ** 2
    return (envelope * rng.standard_normal(samples)).clip(-1, 1).astype(np.float32)


def write_audio(path: Path, waveform: np.ndarray, rate: int = RATE, **kwargs) -> Path:
    """Write an audio file in the format given by its suffix."""
    soundfile.write(path, waveform, rate, **kwargs)
    return path


def numbered_frame(number: int, size: int = 64) -> np.ndarray:
    """``(size, size, 3)`` video frame whose black and white cells are the bits of ``number``."""
    bits = (number >> np.arange(BITS)) & 1
    cells = bits.reshape(4, 4).repeat(size // 4, 0).repeat(size // 4, 1)
    return np.repeat(255 * cells[..., None], 3, axis=2).astype(np.uint8)


def frame_number(frame: np.ndarray) -> int:
    """Decode the number written by :func:`numbered_frame`, also after lossy coding."""
    cell = len(frame) // 4
    means = frame.reshape(4, cell, 4, cell, 3).mean((1, 3, 4)).ravel()
    return int(((means > 127).astype(int) << np.arange(BITS)).sum())


def write_video(
    path: Path,
    count: int,
    codec: str = "libx264",
    gop: int = 250,
    rate: int = 25,
    times: np.ndarray | None = None,
    audio: np.ndarray | None = None,
    late: float = 0.0,
    size: int = 64,
) -> Path:
    """Write ``count`` numbered frames, at ``times`` in milliseconds if given, and 16 kHz audio.

    The audio starts ``late`` seconds after the video.
    """
    options = {"sc_threshold": "0"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width = stream.height = size
        stream.pix_fmt, stream.gop_size, stream.bit_rate = "yuv420p", gop, 800_000
        if times is not None:
            stream.time_base = stream.codec_context.time_base = MILLISECOND
        track = None if audio is None else container.add_stream("aac", rate=RATE, layout="mono")
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(numbered_frame(i, size), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[i]), MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            frame = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
            frame.sample_rate = RATE
            if late:
                frame.pts, frame.time_base = round(late * RATE), Fraction(1, RATE)
            container.mux(track.encode(frame))
            container.mux(track.encode(None))
    return path


def write_clips(folder: Path, seconds: list[float], video: bool = False, **columns) -> Path:
    """Write WAV clips and their manifest, optionally with numbered videos; ``columns`` are lists.

    The 30 frames of a video last as long as the audio, up to rounding of the frame rate.
    """
    rows = []
    for i, duration in enumerate(seconds):
        waveform = noise(duration, seed=i)
        write_audio(folder / f"{i}.wav", waveform)
        row = {"id": f"clip{i}", "audio": f"{i}.wav", "n_frames": num_frames(len(waveform))}
        if video:
            write_video(folder / f"{i}.mp4", 30, rate=round(30 / duration))
            row |= {"video": f"{i}.mp4", "video_frames": 30}
        rows.append(row | {name: values[i] for name, values in columns.items()})
    write_manifest(folder / "train.tsv", rows)
    return folder / "train.tsv"


def clips(folder: Path, seconds: list[float], **kwargs) -> Manifest:
    """:func:`write_clips`, read back."""
    return Manifest(write_clips(folder, seconds, **kwargs))


def words(*symbols: str) -> Dictionary:
    """fairseq dictionary of these symbols."""
    dictionary = Dictionary()
    for symbol in symbols:
        dictionary.add_symbol(symbol)
    return dictionary


def av_model(**options) -> AVPretrainingModel:
    """A small model of stage 1 for 4 video frames of 16 x 16 pixels, in evaluation mode."""
    sizes = {
        **ENCODER_SIZES,
        "video_embed_dim": 16,
        "video_layers": 1,
        "video_attention_heads": 2,
        "video_patch_size": 4,
        "decoder_embed_dim": 16,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "contrastive_dim": 8,
    }
    torch.manual_seed(0)
    task = AVPretrainingTask(AVPretrainingConfig(video_num_frames=4, video_size=16))
    cfg = AVPretrainingModelConfig(**{**sizes, **options})
    return AVPretrainingModel.build_model(cfg, task).eval()


def av_batch() -> dict[str, torch.Tensor]:
    """Clips of 40 and 33 filterbank frames, both with video, for :func:`av_model`."""
    torch.manual_seed(1)
    lengths = torch.tensor([40, 33])
    audio, unmasked = torch.randn(2, 2, 40, 80)
    for features in (audio, unmasked):
        features[1, 33:] = 0
    rng = np.random.default_rng(0)
    audio_mask = np.zeros((2, 10), bool)
    audio_mask[0], audio_mask[1, :9] = random_mask(10, 0.6, rng), random_mask(9, 0.6, rng)
    video_mask = np.stack([random_mask(32, 0.6, rng) for _ in range(2)])
    return {
        "audio": audio,
        "audio_unmasked": unmasked,
        "audio_lengths": lengths,
        "audio_mask": torch.from_numpy(audio_mask),
        "video": torch.randn(2, 3, 4, 16, 16),
        "video_mask": torch.from_numpy(video_mask),
        "audio_rows": torch.tensor([0, 1]),
        "video_rows": torch.tensor([0, 1]),
    }


def speech_task(symbols: tuple[str, ...] = ("a", "b", "c")) -> ManifestSpeechToTextTask:
    """The task of stages 2 and 3 with a vocabulary and no data."""
    unset = {"post_process": None, "checkpoint_suffix": ""}
    task = ManifestSpeechToTextTask(SpeechToTextConfig(data="nowhere", **unset))
    task.tgt_dict = words(*symbols)
    return task


def small_speech_config(**options) -> SpeechToTextModelConfig:
    """Model config at test size."""
    sizes = {
        **ENCODER_SIZES,
        "decoder_embed_dim": 16,
        "decoder_layers": 1,
        "decoder_ffn_embed_dim": 32,
    }
    return SpeechToTextModelConfig(**{**sizes, **options})


def speech_model(symbols: tuple[str, ...] = ("a", "b", "c"), **options) -> SpeechToTextModel:
    """A small model of stages 2 and 3, in evaluation mode; ``symbols`` are tokens 4, 5, ..."""
    torch.manual_seed(0)
    return SpeechToTextModel.build_model(
        small_speech_config(**options), speech_task(symbols)
    ).eval()


def speech_batch(frames: list[int], targets: list[list[int]]) -> dict:
    """A batch of random features and the given targets in fairseq's format."""
    torch.manual_seed(1)
    source = torch.randn(len(frames), max(frames), 80)
    for row, length in enumerate(frames):
        source[row, length:] = 0
    longest = max(map(len, targets))
    pad, eos = 1, 2

    def table(rows: list[list[int]], width: int) -> torch.Tensor:
        return torch.tensor([row + [pad] * (width - len(row)) for row in rows])

    return {
        "id": torch.arange(len(frames)),
        "nsentences": len(frames),
        "ntokens": sum(map(len, targets)) + len(targets),
        "target": table([[*t, eos] for t in targets], longest + 1),
        "ctc_target": table(targets, longest),
        "ctc_target_lengths": torch.tensor([len(t) for t in targets]),
        "net_input": {
            "src_tokens": source,
            "src_lengths": torch.tensor(frames),
            "prev_output_tokens": table([[eos, *t] for t in targets], longest + 1),
        },
    }


def save_checkpoint(path: Path, cfg: dict, model: dict, task_state: dict) -> str:
    """Save a checkpoint in the format of fairseq's trainer; return its path."""
    history = [{"criterion_name": "x", "optimizer_name": "x", "num_updates": 1}]
    state = {
        "args": None,
        "cfg": cfg,
        "model": model,
        "task_state": task_state,
        "optimizer_history": [{**history[0], "lr_scheduler_state": {"best": 0}}],
        "last_optimizer_state": None,
        "extra_state": {"epoch": 1, "train_iterator": {"epoch": 1}},
    }
    torch.save(state, path)
    return str(path)


def stage_1_checkpoint(path: Path) -> tuple[AVPretrainingModel, Path]:
    """Save :func:`av_model` as a checkpoint of stage 1; return the model and the path."""
    model = av_model()
    cfg = {"_name": "mmpt_av_pretraining", **ENCODER_SIZES}
    save_checkpoint(path, {"model": cfg}, model.state_dict(), {})
    return model, path
