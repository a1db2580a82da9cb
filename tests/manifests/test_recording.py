"""Lengths and times of files, compared with what the training's readers decode."""

import io
import re
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from manifests.candidate import Candidate, Limits
from manifests.headers import is_soundfile
from manifests.inspection import measure
from manifests.recording import inspect
from mmpt_fairseq.data.video import read_frames
from mmpt_fairseq.data.waveform import read_waveform
from mmpt_fairseq.data.waveform_stream import waveform_blocks
from tests.helpers import frame_number, noise, write_audio, write_video
from tests.manifests.corpora import hidden, m4a, make_audio, make_video, text, truncated


def fault(path, **options):
    inspect.cache_clear()
    found = inspect(str(path), **options).fault
    return found and " ".join(found)


def decoded(path):
    """(samples, frames) as decoded by the training's readers; all files here are 16 kHz."""
    with av.open(str(path)) as container:
        pictures = sum(1 for _ in container.decode(video=0)) if container.streams.video else 0
    return len(read_waveform(str(path))), pictures


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.flac", "a.ogg", "a.mp3", "a.m4a", "a.mp4"])
def test_lengths_are_as_decoded(tmp_path, name):
    path = tmp_path / name
    if name == "a.m4a":
        m4a(path, 1.234)
    elif name == "a.mp4":
        write_video(path, 31, audio=noise(1.234))
    else:
        make_audio(path, 1.234)
    found = inspect(str(path))
    assert (found.rate, found.samples, found.video_frames) == (16_000, *decoded(path))
    again = inspect(str(path), decode=True)
    assert (again.samples, again.video_frames) == (found.samples, found.video_frames)


@pytest.mark.parametrize("seconds", [0.0, 0.4, 1.52, 2.88])
@pytest.mark.parametrize("gop", [12, 250])
def test_content_hidden_by_an_edit_list_does_not_count(tmp_path, seconds, gop):
    path = write_video(tmp_path / "a.mp4", 100, gop=gop, audio=noise(4.0))
    cut = hidden(path, seconds)
    found = inspect(str(cut))
    assert (found.samples, found.video_frames) == decoded(cut)
    assert found.video_frames == 100 - round(25 * seconds)
    numbers = [frame_number(p) for p in read_frames(str(cut), np.arange(found.video_frames))]
    assert numbers == list(range(round(25 * seconds), 100))


def test_fragmented_files_and_cover_images(tmp_path):
    path = make_video(tmp_path / "a.mp4", 2.0)
    options = {"movflags": "frag_keyframe+empty_moov"}
    for name, wanted in (("fragments.mp4", options), ("cover.mp4", {})):
        with (
            av.open(str(path)) as source,
            av.open(str(tmp_path / name), "w", options=wanted) as out,
        ):
            streams = [s for s in source.streams if s.type == "audio" or wanted]
            copies = {s.index: out.add_stream_from_template(s) for s in streams}
            if not wanted:
                cover = out.add_stream("mjpeg")
                cover.width = cover.height = 64
                cover.pix_fmt, cover.disposition = "yuvj420p", av.stream.Disposition.attached_pic
                frame = av.VideoFrame(64, 64, "yuvj420p")
                frame.pts = 0
                out.mux(cover.encode(frame))
            for packet in source.demux(streams):
                if packet.dts is not None:
                    packet.stream = copies[packet.stream.index]
                    out.mux(packet)
    found = inspect(str(tmp_path / "fragments.mp4"))
    assert (found.samples, found.video_frames) == decoded(tmp_path / "fragments.mp4")
    assert found.video_frames == 50
    found = inspect(str(tmp_path / "cover.mp4"))
    assert (found.samples > 31_000, found.video_frames) == (True, 0)
    clip = Candidate("a", "train", str(tmp_path / "cover.mp4"), video=str(tmp_path / "cover.mp4"))
    assert measure(clip, Limits()).reason == "no video track"


def numbered_video(kind, tmp_path):
    """A video of numbered frames, and the time in seconds at which each appears."""
    steps = np.where(np.arange(120) < 50, 40, np.where(np.arange(120) < 80, 80, 20))
    times = np.cumsum(steps) - steps[0]
    audio = noise(5.2)
    if kind == "cut.mp4":
        path = write_video(tmp_path / "a.mp4", 150, gop=50, audio=noise(6.0))
        return hidden(path, 1.6), np.arange(150) / 25 - 1.6
    if kind in ("varying.mp4", "varying.mkv"):
        path = write_video(tmp_path / kind, 120, gop=30, times=times, audio=audio)
        return path, times / 1000
    if kind == "a.mpg":
        return write_video(tmp_path / kind, 120, "mpeg1video", gop=15), np.arange(120) / 25
    return write_video(tmp_path / kind, 120, gop=30, audio=audio), np.arange(120) / 25


@pytest.mark.parametrize(
    "kind", ["cut.mp4", "varying.mp4", "varying.mkv", "a.mp4", "a.mpg", "a.ts"]
)
def test_a_cue_has_the_frames_displayed_at_its_time(tmp_path, kind):
    path, times = numbered_video(kind, tmp_path)
    audio = str(make_audio(tmp_path / "a.wav", 6.0))
    for start, seconds in ((0.0, 1.0), (1.93, 0.7), (2.5, 1.3), (3.31, 0.9)):
        clip = Candidate("a", "train", audio, video=str(path), start=start, seconds=seconds)
        found = measure(clip, Limits())
        source, count = found.row["video"], found.row["video_frames"]
        numbers = [frame_number(p) for p in read_frames(source, np.arange(count))]
        # The first frame is the last to appear before the start; that at the end is excluded.
        first, after = (int(np.sum(times <= time + 0.002)) - 1 for time in (start, start + seconds))
        assert numbers == list(range(first, after)), (start, source)


def test_a_slide_displayed_since_before_the_cue_is_its_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", 3, times=np.array([0, 2000, 4000]), audio=noise(6.0))
    clip = Candidate("a", "train", str(path), video=str(path), start=2.5, seconds=1.0)
    assert measure(clip, Limits()).row["video"] == f"{path}:1:1"


def test_audio_that_starts_late_is_cut_by_its_timestamps(tmp_path):
    path = make_video(tmp_path / "a.mp4", 3.0)
    with av.open(str(path)) as source, av.open(str(tmp_path / "late.mkv"), "w") as out:
        copies = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                if packet.stream.type == "audio":
                    packet.pts += 8_000
                    packet.dts += 8_000
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    late = str(tmp_path / "late.mkv")
    clip = Candidate("a", "train", late, start=1.5, seconds=1.0)
    part = read_waveform(measure(clip, Limits()).row["audio"])
    whole = read_waveform(str(path))
    lags = range(-400, 401, 8)
    errors = [np.abs(part - whole[16_000 + lag :][: len(part)]).mean() for lag in lags]
    assert abs(lags[int(np.argmin(errors))]) <= 32  # mkv has timestamps in milliseconds


@pytest.mark.parametrize("name", ["gap.mkv", "gap.mp4", "gap.ts"])
def test_audio_after_a_gap_keeps_its_time(name, tmp_path):
    """As after a recorder's dropout of ten seconds; the measured length is the decoded one."""
    path = make_video(tmp_path / "a.mp4", 3.0)
    broken = _with_a_gap(path, tmp_path / name, 10.0)
    whole, read = read_waveform(str(path)), read_waveform(broken)
    assert abs(len(read) - len(whole) - 160_000) <= 1600
    assert np.abs(read[20_000:170_000]).max() < 1e-3
    for decode in (False, True):
        assert abs(inspect(broken, decode).samples - len(read)) <= 1600
    clip = Candidate("a", "train", broken, start=11.8, seconds=1.0)
    part = read_waveform(measure(clip, Limits()).row["audio"])
    lags = range(-800, 801, 8)
    errors = [np.abs(part - whole[28_800 + lag :][: len(part)]).mean() for lag in lags]
    assert abs(lags[int(np.argmin(errors))]) <= 400
    assert min(errors) < np.abs(part).mean() / 4


def test_a_timestamp_jump_of_hours_is_ignored(tmp_path):
    path = make_video(tmp_path / "a.mp4", 3.0)
    broken = _with_a_gap(path, tmp_path / "a.mkv", 7200.0)
    assert abs(len(read_waveform(broken)) - len(read_waveform(str(path)))) <= 1600
    assert abs(inspect(broken).samples - len(read_waveform(broken))) <= 1600


def _with_a_gap(path: Path, target: Path, seconds: float) -> str:
    """Write a video's audio with a gap of ``seconds`` after its first second."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        [audio] = source.streams.audio
        copy = out.add_stream_from_template(audio)
        for packet in source.demux(audio):
            if packet.dts is not None:
                if packet.pts * packet.time_base >= 1:
                    packet.pts += round(seconds / packet.time_base)
                    packet.dts = packet.pts
                packet.stream = copy
                out.mux(packet)
    return str(target)


def test_an_mp4_truncated_before_its_last_packet(tmp_path):
    path = make_video(tmp_path / "a.mp4", 2.0)
    # The index precedes audio and video, as for web servers.
    with av.open(str(path)) as source:
        options = {"movflags": "faststart"}
        with av.open(str(tmp_path / "fast.mp4"), "w", options=options) as target:
            streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)
    assert not fault(tmp_path / "fast.mp4")
    truncated(tmp_path / "fast.mp4", 0.9)
    assert fault(tmp_path / "fast.mp4").startswith("unreadable")


def test_damage_inside_an_mp4_is_found_by_decoding(tmp_path):
    path = write_video(tmp_path / "a.mp4", 100, gop=10, audio=noise(4.0))
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = bytes(third)
    path.write_bytes(data)
    assert not fault(path)
    assert fault(path, decode=True).startswith("unreadable")


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_damage_is_found_by_comparison_with_the_header(tmp_path, suffix):
    path = make_audio(tmp_path / f"a.{suffix}", 10.0)
    whole = path.read_bytes()
    if suffix == "mp3":
        truncated(path)
    else:
        middle, length = len(whole) // 2, len(whole) // 10
        path.write_bytes(whole[:middle] + bytes(length) + whole[middle + length :])
    assert fault(path).startswith("unreadable")


def test_an_mp3_without_a_stated_length(tmp_path):
    path = tmp_path / "a.mp3"
    loud = 4 * noise(3.0)
    with av.open(str(path), "w", options={"write_xing": "0"}) as container:
        stream = container.add_stream(
            "libmp3lame", rate=16_000, layout="mono", options={"abr": "1"}
        )
        stream.bit_rate = 48_000
        samples = np.concatenate([0 * loud, loud, 0 * loud])[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert soundfile.info(path).frames > 9.5 * 16_000  # libsndfile's estimate
    assert inspect(str(path)).samples == len(read_waveform(str(path))) < 9.2 * 16_000


def test_concatenated_mp3s_are_read_to_the_end(tmp_path):
    """libsndfile would stop at the end of the first part."""
    parts = [make_audio(tmp_path / f"{i}.mp3", 3.0 + i, i).read_bytes() for i in range(2)]
    path = tmp_path / "joined.mp3"
    path.write_bytes(b"".join(parts))
    assert soundfile.info(path).frames < 3.2 * 16_000
    read = read_waveform(str(path))
    assert len(read) == pytest.approx(7.0 * 16_000, abs=4000)
    assert sum(map(len, waveform_blocks(str(path)))) == len(read)
    for decode in (False, True):
        assert inspect(str(path), decode).samples == pytest.approx(len(read), abs=1600)
    clip = Candidate("a", "train", str(path), start=5.0, seconds=1.0)
    part = read_waveform(measure(clip, Limits()).row["audio"])
    assert np.array_equal(part, read[80_000:96_000])


def test_seam_of_mp3s_that_ffmpeg_wrote_is_not_damage(tmp_path):
    """FFmpeg cannot decode the tags and the length that the second part begins with."""
    with av.open(str(tmp_path / "part.mp3"), "w") as container:
        stream = container.add_stream("libmp3lame", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise(3.0, rate=44_100)[None], "fltp", "mono")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path = tmp_path / "joined.mp3"
    path.write_bytes((tmp_path / "part.mp3").read_bytes() * 2)
    read = read_waveform(str(path))
    assert len(read) == pytest.approx(6.0 * 16_000, abs=4000)
    blocks = np.concatenate(list(waveform_blocks(str(path), skip_damaged=True)))
    np.testing.assert_allclose(blocks, read, atol=1e-6)
    found = inspect(str(path))
    assert found.fault is None
    assert found.samples / found.rate == pytest.approx(len(read) / 16_000, abs=0.1)


def test_concatenated_mp3s_of_two_sample_rates(tmp_path):
    rates = (24_000, 16_000)
    parts = [write_audio(tmp_path / f"{r}.mp3", noise(3.0, rate=r), r).read_bytes() for r in rates]
    path = tmp_path / "joined.mp3"
    path.write_bytes(b"".join(parts))
    found = inspect(str(path))
    assert found.rate == 24_000
    assert found.samples == pytest.approx(6.0 * 24_000, abs=4000)
    assert len(read_waveform(str(path))) == pytest.approx(found.samples * 2 / 3, abs=1600)


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\x02\0" + bytes(256)])
def test_an_mp3_with_a_stated_size_is_not_read_for_it(tag, tmp_path, monkeypatch):
    path = make_audio(tmp_path / "a.mp3", 2.0)
    path.write_bytes(tag + path.read_bytes())
    monkeypatch.setattr(av, "open", None)
    assert is_soundfile(str(path))


def test_flac_without_a_stated_length(tmp_path):
    """As written to a pipe: its header has no sample count."""
    path = make_audio(tmp_path / "a.flac", 2.0)
    whole = read_waveform(str(path))
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the last 36 bits before the checksum of the samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert np.allclose(read_waveform(str(path)), whole, atol=1e-6)
    assert inspect(str(path)).samples == len(whole)
    assert np.allclose(read_waveform(f"{path}:16000:8000"), whole[16_000:24_000], atol=1e-6)


def test_chained_ogg_streams_are_read_whole_but_not_cut(tmp_path):
    parts = [make_audio(tmp_path / f"{i}.ogg", 1.0, i).read_bytes() for i in range(2)]
    (tmp_path / "a.ogg").write_bytes(b"".join(parts))
    assert len(read_waveform(str(tmp_path / "a.ogg"))) == pytest.approx(32_000, abs=300)
    assert "several chained Ogg streams" in fault(tmp_path / "a.ogg")


@pytest.mark.parametrize("suffix", ["wav", "aiff"])
def test_a_truncated_wav(tmp_path, suffix):
    path = make_audio(tmp_path / f"a.{suffix}", 2.0)
    assert not fault(path)
    truncated(path)
    assert not fault(path)  # of existing parts
    assert re.search(r"159\d\d of the 3(1|2)\d\d\d samples", inspect(str(path)).cut_off)


def test_a_wav_from_a_pipe_is_as_long_as_its_data(tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(1.0), 16_000, format="WAV")
    data = bytearray(buffer.getvalue())
    place = data.index(b"data") + 4
    data[4:8] = data[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(data)
    assert inspect(str(tmp_path / "a.wav")).samples == 16_000


def test_a_float_wav_with_nan(tmp_path):
    samples = noise(1.0)
    assert not fault(write_audio(tmp_path / "good.wav", samples, subtype="FLOAT"))
    samples[7_000] = np.nan
    path = write_audio(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert "not numbers" in fault(path)


def test_a_text_file_with_the_name_of_a_clip(tmp_path):
    text(tmp_path / "a.mp4", "not a video")
    assert fault(tmp_path / "a.mp4").startswith("unreadable")


def test_a_recording_is_cut_into_equal_pieces(tmp_path):
    path = str(make_video(tmp_path / "a.mp4", 5.0))
    found = measure(Candidate("a", "train", path, video=path, cut=2.0), Limits()).pieces
    parts = [piece.row["audio"].rsplit(":", 2)[1:] for piece in found]
    assert len(parts) == 3  # of 1.67 s: closer to two seconds than pieces of 2.5
    ends = [int(offset) + int(length) for offset, length in parts]
    assert [int(offset) for offset, _ in parts[1:]] == pytest.approx(ends[:-1], abs=1)
    assert ends[-1] == pytest.approx(inspect(path).samples, abs=1)
    assert sum(piece.row["video_frames"] for piece in found) == 125
    short = measure(Candidate("a", "train", path, cut=4.0), Limits())
    assert (short.pieces, short.row["audio"]) == ((), path)
    assert measure(Candidate("a", "train", "/no.wav", cut=2.0), Limits()).reason == "missing file"
