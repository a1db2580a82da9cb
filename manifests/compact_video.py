"""Small copies of videos for fast reading: ``python -m manifests.compact_video OUT FOLDER...``.

Every video in the folders' manifests is transcoded once, with its smaller side at 256 pixels
(``--small-side``) and a key frame every 12 frames (H.264, no audio), so that a training step
decodes neither large frames nor many unused ones. The manifests' ``video`` then points to the
copies, frame for frame; ``audio`` is unchanged. A killed run resumes after the existing copies.
A video that cannot be read keeps its path; training skips and counts it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from functools import partial
from hashlib import sha1
from pathlib import Path

from tqdm import tqdm

from manifests.common import atomic_path, parallel_stream, remove_stale
from manifests.container import frame_converter, video_stream
from manifests.errors import InputError, command_line

SMALL_SIDE = 256
KEY_EVERY = 12  # frames
COARSEST_CLOCK = 3_000_000_000  # nanoseconds: some file systems store times in steps of 2 s
QUALITY = "26"  # x264's constant rate factor
COPY = re.compile(r".*/([0-9a-f]{3})/\1[0-9a-f]{37}(?:_(\d+))?\.mp4", re.DOTALL)  # copy_path

Job = tuple[str, str]


def compact(
    out: Path, folders: list[Path], jobs: int = 1, small_side: int = SMALL_SIDE
) -> tuple[int, int]:
    """Write the copies and update the manifests; returns (videos copied, left unchanged).

    Raises:
        InputError: a folder holds no manifest; or a manifest is invalid, or points to other copies.
    """
    # Imported here because they import fairseq, which no worker needs.
    from manifests.repoint import Files, Row, absolute, open_manifests, relative, repoint, rows
    from mmpt_fairseq.data.waveform import split_slice

    def source(path: Path, row: Row) -> str:
        return absolute(path, split_slice(row["video"])[0])

    out = out.resolve()
    remove_stale(out)
    manifests = open_manifests(folders)

    def originals() -> Iterator[str]:
        for path, row in ((m.path, row) for m in manifests for row in rows(m) if row["video"]):
            video = source(path, row)
            if not COPY.fullmatch(video):
                yield video
            elif out not in Path(video).resolve().parents or _side_of(video) != small_side:
                raise InputError(
                    f"{path}: {row['id']} points to {video}, a copy with a smaller side of "
                    f"{_side_of(video)}; run the recipe again to point to the originals"
                )

    with closing(Files(originals())) as files:
        work = ((video, str(copy_path(out, video, small_side))) for video in files)
        make = partial(make_copy, small_side=small_side)
        stream = parallel_stream(make, work, jobs, _lost)
        for (video, copy), fault in tqdm(stream, total=len(files), desc="videos", unit="video"):
            if fault:
                print(f"left unchanged: {video}: {fault}", file=sys.stderr)
            else:
                files.settle(video, copy)

        def to_copy(path: Path, row: Row) -> None:
            copy = files.place(source(path, row)) if row["video"] else None
            if copy:
                whole = split_slice(row["video"])[0]
                row["video"] = relative(path, copy) + row["video"][len(whole) :]

        repoint(manifests, to_copy)
        return files.settled(), len(files) - files.settled()


def _lost(job: Job) -> str:
    return "it crashes the process that reads it"


def copy_path(out: Path, video: str, small_side: int = SMALL_SIDE) -> Path:
    """Where the copy of a video is; spread over 4096 folders to keep each small."""
    name = sha1(os.fsencode(video)).hexdigest()
    size = "" if small_side == SMALL_SIDE else f"_{small_side}"
    return out / name[:3] / f"{name}{size}.mp4"


def _side_of(copy: str) -> int:
    return int(COPY.fullmatch(copy)[2] or SMALL_SIDE)


def make_copy(job: Job, small_side: int = SMALL_SIDE) -> str:
    """Transcode one video; returns an error message, or an empty string."""
    import av

    video, copy = job
    changed, copied = _changed(video), _changed(copy)
    if None not in (changed, copied) and abs(changed - copied) < COARSEST_CLOCK:
        return ""
    av.logging.set_level(av.logging.PANIC)
    try:
        with atomic_path(Path(copy)) as partial, av.open(f"file:{video}") as source:
            if video_stream(source) is None:
                raise ValueError("no video track")
            with av.open(str(partial), "w", format="mp4") as target:
                _transcode(source, target, small_side)
            os.utime(partial, ns=(changed, changed))
        return ""
    except Exception as error:  # PyAV raises many types on damaged files: all mean a bad file
        return (str(error).splitlines() or [type(error).__name__])[0]


def _changed(path: str) -> int | None:
    """A file's modification time; a copy has its video's, which shows that it is up to date."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _transcode(source, target, small_side: int) -> None:
    """Transcode frame by frame, renumbered at a constant rate: frames are identified by index.

    Raises:
        ValueError: there is no frame.
    """
    import av

    stream = video_stream(source)
    stream.thread_type = "NONE"
    rate = Fraction(stream.average_rate or 25).limit_denominator(1001)
    width, height = _size(stream.width, stream.height, small_side)
    options = {"crf": QUALITY, "preset": "veryfast", "sc_threshold": "0", "threads": "1"}
    coded = target.add_stream("libx264", rate=rate, options=options)
    coded.width, coded.height, coded.pix_fmt = width, height, "yuv420p"
    coded.gop_size, coded.max_b_frames = KEY_EVERY, 0
    count, convert = 0, frame_converter()
    for frame in source.decode(stream):
        if not count and frame.rotation:
            coded.set_display_rotation(frame.rotation)
        small = convert(frame, width, height, "yuv420p", interpolation="AREA")
        # A new frame, because the encoder would reuse the old one's type (I, P, B).
        out_frame = av.VideoFrame.from_ndarray(small.to_ndarray(), format="yuv420p")
        out_frame.pts, out_frame.time_base = count, 1 / rate
        target.mux(coded.encode(out_frame))
        count += 1
    if not count:
        raise ValueError("no frame can be decoded")
    target.mux(coded.encode(None))


def _size(width: int, height: int, small_side: int) -> tuple[int, int]:
    """Even side lengths, the smaller one at most ``small_side``."""
    scale = min(1.0, small_side / min(width, height))
    return tuple(max(2, 2 * round(side * scale / 2)) for side in (width, height))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m manifests.compact_video", description=__doc__.splitlines()[0]
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the copies")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="with manifests")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--small-side", type=int, default=SMALL_SIDE, metavar="PIXELS")
    args = parser.parse_args(arguments)
    with command_line():
        copied, left = compact(args.out, args.folders, args.jobs, args.small_side)
    print(f"{args.out}: {copied} videos, {left} left unchanged", file=sys.stderr)


if __name__ == "__main__":
    main()
