"""The command line: ``mmpt-transcribe CHECKPOINT FILE... [--format text|json|tsv|srt|vtt]``."""

import argparse
import contextlib
import gc
import logging
import os
import sys
import warnings
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from manifests.errors import InputError, UnreadableClip, command_line
from manifests.headers import is_soundfile
from mmpt_fairseq.data.waveform_stream import duration
from mmpt_fairseq.extensions import add_user_dir, import_user_dir
from mmpt_fairseq.tasks.speech_to_text import SpeechToTextConfig
from mmpt_fairseq.transcription.formats import (
    FORMATS,
    HEADERS,
    SUBTITLES,
    render,
    render_failure,
)
from mmpt_fairseq.transcription.model import LONGEST_PIECE, load
from mmpt_fairseq.transcription.search import LM_WEIGHT
from mmpt_fairseq.transcription.transcript import Transcript


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="mmpt-transcribe",
        description="Write down what is said in audio and video files: one line a file.",
    )
    parser.add_argument("checkpoint", help="of stage 3, or of stage 2 to translate")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="wav, flac, ogg, mp3, mp4, mpg ... of any length"
    )
    help_text = (
        "default: text, a line a file; json: a line a file too, an object in each; tsv: a row for "
        "each piece of up to --longest seconds in which something is said"
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help=help_text)
    parser.add_argument(
        "--output-dir", type=Path, help="write a file for each FILE there, instead of to stdout"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=8,
        help="pieces decoded at once (8); no text depends on it",
    )
    parser.add_argument(
        "--decoding",
        choices=list(SpeechToTextConfig.__dataclass_fields__["decoding"].type),
        help="default: ctc where the model has a CTC head, the fastest, or with a language model "
        "ctc_beam; joint, many times as slow, can be the best where a decoder was trained too",
    )
    parser.add_argument(
        "--ctc-decoding-weight",
        type=float,
        help="of CTC beside the decoder in joint decoding (the training's, 0.3 by default)",
    )
    parser.add_argument("--beam", type=int, default=5, help="of all decoding but ctc (5)")
    parser.add_argument(
        "--lm-path", help="a language model of fairseq's on the checkpoint's vocabulary"
    )
    parser.add_argument("--lm-weight", type=float, help=f"its weight ({LM_WEIGHT})")
    parser.add_argument("--language", help="of the text, where the model writes several")
    parser.add_argument(
        "--longest",
        type=float,
        metavar="SECONDS",
        help=f"longer recordings are cut where they are quietest ({LONGEST_PIECE:g})",
    )
    parser.add_argument("--device", help="as torch names it; default: a GPU where there is one")
    add_user_dir(parser)
    return parser.parse_args(arguments)


def transcribe(args: argparse.Namespace) -> int:
    """Transcribe all files; returns how many failed, each of them named on stderr.

    Raises:
        InputError: nothing can be done: the checkpoint or an option is at fault.
    """
    outputs = _outputs(args)
    model = load(args.checkpoint, args.device)
    transcripts = model.transcribe_each(
        args.files,
        batch_size=args.batch_size,
        longest=args.longest,
        progress=True,
        decoding=args.decoding,
        beam=args.beam,
        language=args.language,
        lm_path=args.lm_path,
        lm_weight=args.lm_weight,
        ctc_weight=args.ctc_decoding_weight,
    )
    # The bar ends before whatever ends the command is said.
    with contextlib.closing(transcripts):
        failed, header = 0, HEADERS.get(args.format, "")
        for path, output, transcript in zip(args.files, outputs, transcripts, strict=True):
            failed += not _tell(path, output, transcript, args.format, header)
            if output is None and isinstance(transcript, Transcript):
                header = ""  # stdout has it
    return failed


def _tell(
    path: str,
    output: Path | None,
    transcript: Transcript | UnreadableClip,
    style: str,
    header: str,
) -> bool:
    """Write one file's transcript to ``output``, or stdout; returns whether it is whole."""
    if isinstance(transcript, UnreadableClip):
        tqdm.write(f"mmpt-transcribe: {transcript}", file=sys.stderr)
        if output is None:
            _print(render_failure(path, str(transcript), style))
        return False
    if transcript.fault:
        heard = f"{transcript.fault}; what could be heard of {transcript.duration:.1f} s is written"
        tqdm.write(f"mmpt-transcribe: {heard}", file=sys.stderr)
    else:
        _tell_if_cut(path, transcript)
    if not transcript.text:
        tqdm.write(f"mmpt-transcribe: no words were found in {path}", file=sys.stderr)
    if output is None:
        _print(header + render(transcript, style))
    else:
        _write(output, header + render(transcript, style))
    return not transcript.fault


def _tell_if_cut(path: str, transcript: Transcript) -> None:
    """Say so where a file, by its header, should hold more sound: a download that was cut off.

    A container's header counts pictures too, which may well go on without sound.
    """
    promised = duration(path) if is_soundfile(path) else None
    heard = sum(segment.end - segment.start for segment in transcript.segments)
    if promised and promised - heard > max(1.0, 0.05 * promised):
        tqdm.write(
            f"mmpt-transcribe: {path} ends after {heard:.1f} s, of {promised:.1f} s that its "
            "header promises",
            file=sys.stderr,
        )


def _print(text: str) -> None:
    """To stdout, at once, beside the bar."""
    try:
        tqdm.write(text, file=sys.stdout, end="")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_stdout_up()
        raise InputError(f"stdout cannot be written: {error.strerror}") from None


def _give_stdout_up() -> None:
    """Python would try once more on closing, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(path: Path, text: str) -> None:
    try:
        # As on stdout: a transcript may hold its file's name, which need not be UTF-8.
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def _outputs(args: argparse.Namespace) -> list[Path | None]:
    """Where each file's transcript goes; None for stdout."""
    if args.output_dir is None:
        if len(args.files) > 1 and args.format in SUBTITLES:
            raise InputError(
                f"subtitles of {len(args.files)} files cannot share stdout; give --output-dir"
            )
        return [None for _ in args.files]
    outputs = [args.output_dir / (Path(f).stem + FORMATS[args.format]) for f in args.files]
    clash = next((path for path, count in Counter(outputs).items() if count > 1), None)
    if clash:
        files = (f for f, output in zip(args.files, outputs, strict=True) if output == clash)
        raise InputError(f"{' and '.join(files)} would all be {clash}; transcribe them apart")
    try:
        args.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make --output-dir {args.output_dir}: {error.strerror}") from None
    return outputs


def main(arguments: list[str] | None = None) -> None:
    """Exit status 1 when a file failed; the others are done all the same."""
    args = parse_arguments(arguments)
    gc.freeze()  # what was imported stays: Python need not look through it, least of all at the end
    # fairseq logs and warns as in a training; stderr is for the bar and for faults.
    logging.basicConfig(level=logging.ERROR, force=True)
    warnings.simplefilter("ignore")
    # A file name need not be UTF-8; it is written as it came.
    sys.stdout.reconfigure(errors="surrogateescape")
    try:
        with command_line():
            import_user_dir(args)
            failed = transcribe(args)
    except BrokenPipeError:
        _give_stdout_up()  # whoever reads has had enough (`| head`)
        raise SystemExit(1) from None
    if failed:
        raise SystemExit(f"mmpt-transcribe: {failed} of {len(args.files)} files failed")


if __name__ == "__main__":
    main()
