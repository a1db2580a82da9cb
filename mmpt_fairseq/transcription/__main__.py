"""Command line: ``mmpt-transcribe CHECKPOINT FILE... [--format text|json|srt|...]``."""

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
from mmpt_fairseq.data.waveform_stream import duration, stated_audio_end
from mmpt_fairseq.decoding.choice import DECODINGS
from mmpt_fairseq.extensions import add_user_dir, import_user_dir
from mmpt_fairseq.transcription.formats import (
    FORMATS,
    HEADERS,
    OF_ONE_FILE,
    render,
    render_failure,
)
from mmpt_fairseq.transcription.model import DEFAULT_PIECE_SECONDS, load
from mmpt_fairseq.transcription.search import LM_WEIGHT
from mmpt_fairseq.transcription.transcript import Transcript


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command-line arguments."""
    parser = argparse.ArgumentParser(
        prog="mmpt-transcribe",
        description="Transcribe the speech in audio and video files, one line per file.",
    )
    parser.add_argument("checkpoint", help="of stage 3, or of stage 2 for translation")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="wav, flac, ogg, mp3, mp4, mpg ... of any length"
    )
    help_text = (
        "default: text, one line per file; json: one object per file, each on one line; tsv: one "
        "row for each piece of up to --longest seconds that contains speech; textgrid: these and "
        "the words, to correct in Praat or ELAN"
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help=help_text)
    parser.add_argument(
        "--output-dir",
        type=Path,
        help="write one file per FILE to this folder, not to stdout; existing ones are replaced, "
        "except for TextGrids, which may have been corrected",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=8,
        help="pieces decoded at once (8); does not affect the text",
    )
    parser.add_argument(
        "--decoding",
        choices=DECODINGS,
        help="default: ctc, the fastest, if the model has a CTC head (with a language model: "
        "ctc_beam); joint, many times slower, can be the best if the model has a trained decoder",
    )
    parser.add_argument(
        "--ctc-decoding-weight",
        type=float,
        help="weight of CTC in joint decoding (default: the training's, 0.3 unless configured)",
    )
    parser.add_argument("--beam", type=int, default=5, help="beam size, unused by ctc (5)")
    parser.add_argument(
        "--lm-path", help="fairseq language model with the vocabulary of the checkpoint"
    )
    parser.add_argument("--lm-weight", type=float, help=f"its weight ({LM_WEIGHT})")
    parser.add_argument("--language", help="of the text, if the model writes several")
    parser.add_argument(
        "--longest",
        type=float,
        metavar="SECONDS",
        help="longer recordings are cut at their quietest points "
        f"({DEFAULT_PIECE_SECONDS:g}, or the model's limit if less)",
    )
    parser.add_argument("--device", help="torch device; default: a GPU if available")
    add_user_dir(parser)
    return parser.parse_args(arguments)


def transcribe(args: argparse.Namespace) -> int:
    """Transcribe all files; return the number that failed, each of which is named on stderr.

    Raises:
        InputError: the checkpoint or an option is unusable.
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
    # Close the progress bar before a final message is printed.
    with contextlib.closing(transcripts):
        failed, header = 0, HEADERS.get(args.format, "")
        for path, output, transcript in zip(args.files, outputs, transcripts, strict=True):
            failed += not _write_transcript(path, output, transcript, args.format, header)
            if output is None and isinstance(transcript, Transcript):
                header = ""  # already on stdout
    return failed


def _write_transcript(
    path: str,
    output: Path | None,
    transcript: Transcript | UnreadableClip,
    style: str,
    header: str,
) -> bool:
    """Write a transcript to ``output`` or stdout; return whether the file was read completely."""
    if isinstance(transcript, UnreadableClip):
        tqdm.write(f"mmpt-transcribe: {transcript}", file=sys.stderr)
        if output is None:
            _print(render_failure(path, str(transcript), style))
        return False
    if transcript.fault:
        message = f"{transcript.fault}; the readable {transcript.duration:.1f} s are transcribed"
        tqdm.write(f"mmpt-transcribe: {message}", file=sys.stderr)
    else:
        _warn_if_truncated(path, transcript)
    if not transcript.text:
        tqdm.write(f"mmpt-transcribe: no words were recognised in {path}", file=sys.stderr)
    if output is None:
        _print(header + render(transcript, style))
    else:
        _write(output, header + render(transcript, style))
    return not transcript.fault


def _warn_if_truncated(path: str, transcript: Transcript) -> None:
    """Warn if a file has less audio than its header states, as a truncated download has."""
    stated, read = duration(path), transcript.duration
    if _is_short(read, stated) and not is_soundfile(path):
        stated = stated_audio_end(path)  # the duration includes video, which may be longer
    if _is_short(read, stated):
        tqdm.write(
            f"mmpt-transcribe: {path} ends after {read:.1f} s, but its header states {stated:.1f} "
            "s; it may be truncated",
            file=sys.stderr,
        )


def _is_short(read: float, stated: float | None) -> bool:
    return stated is not None and stated - read > max(1.0, 0.05 * stated)


def _print(text: str) -> None:
    """Write to stdout and flush, without disturbing the progress bar."""
    try:
        if sys.stderr.isatty():
            tqdm.write(text, end="")
        else:  # in a log file the bar would be repeated for every file
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_stdout()
        raise InputError(f"stdout cannot be written: {error.strerror}") from None


def _discard_stdout() -> None:
    """Redirect stdout to the null device, so that Python's flush at exit does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(path: Path, text: str) -> None:
    try:
        # As on stdout: a transcript may contain its file name, which need not be UTF-8.
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def _outputs(args: argparse.Namespace) -> list[Path | None]:
    """Output path of each file's transcript; None for stdout."""
    if args.output_dir is None:
        if len(args.files) > 1 and args.format in OF_ONE_FILE:
            raise InputError(
                f"{args.format} of {len(args.files)} files cannot share stdout; give --output-dir"
            )
        return [None for _ in args.files]
    outputs = [args.output_dir / (Path(f).stem + FORMATS[args.format]) for f in args.files]
    clash = next((path for path, count in Counter(outputs).items() if count > 1), None)
    if clash:
        files = (f for f, output in zip(args.files, outputs, strict=True) if output == clash)
        raise InputError(
            f"{' and '.join(files)} would all be written to {clash}; transcribe them separately"
        )
    corrected = next((path for path in outputs if path.exists()), None)
    if corrected and args.format == "textgrid":
        raise InputError(
            f"{corrected} exists and may have been corrected; move it away or give another "
            "--output-dir"
        )
    try:
        args.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make --output-dir {args.output_dir}: {error.strerror}") from None
    return outputs


def main(arguments: list[str] | None = None) -> None:
    """Run the command; exit with status 1 if any file failed (the others are still transcribed)."""
    args = parse_arguments(arguments)
    gc.freeze()  # exclude imported modules from garbage collection, also at exit
    # Suppress fairseq's training logs and warnings: stderr is for the progress bar and errors.
    logging.basicConfig(level=logging.ERROR, force=True)
    warnings.simplefilter("ignore")
    # Like files; a name in the output that is not UTF-8 is written as its bytes.
    if sys.stdout is not None:
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        with command_line():
            import_user_dir(args)
            failed = transcribe(args)
    except BrokenPipeError:
        _discard_stdout()  # the reader has closed the pipe (`| head`)
        raise SystemExit(1) from None
    if failed:
        raise SystemExit(f"mmpt-transcribe: {failed} of {len(args.files)} files failed")


if __name__ == "__main__":
    main()
