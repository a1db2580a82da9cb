import gc
import os
import pickle
import tracemalloc

import numpy as np
import pytest
from fairseq.data.audio.speech_to_text_dataset import SpeechToTextDatasetCreator

from manifests.errors import InputError
from mmpt_fairseq.data import manifest as data_manifest
from mmpt_fairseq.data.joined_manifest import JoinedManifest
from mmpt_fairseq.data.manifest import COLUMNS, Manifest, write_manifest

HEADER = "id\taudio\tn_frames\ttgt_text\n"


def manifest(tmp_path, text, **kwargs):
    path = tmp_path / "train.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Manifest(path, **kwargs)


def test_written_manifest_is_read_back(tmp_path):
    rows = [
        {"id": "a", "audio": "a.wav", "n_frames": 7, "tgt_text": "größer „zitat“ \\ \" '"},
        {"id": "b", "audio": "x/b.mp4", "n_frames": 0, "video": "x/b.mp4", "video_frames": 31},
    ]
    assert write_manifest(tmp_path / "new" / "a.tsv", rows) == 2
    read = Manifest(tmp_path / "new" / "a.tsv", needs=["tgt_text"])
    assert read.columns == list(COLUMNS)
    for name in COLUMNS:
        assert list(read.column(name)) == [str(row.get(name, "")) for row in rows]
    assert read.n_frames.tolist() == [7, 0]
    assert read.video_frames.tolist() == [0, 31]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.tsv"]


def test_error_of_a_missing_manifest_names_the_others_in_its_folder(tmp_path):
    for name in ("train", "dev", "skipped"):
        (tmp_path / f"{name}.tsv").touch()
    with pytest.raises(
        InputError, match=r"no manifest .*/valid\.tsv; found only dev, train; write one"
    ):
        Manifest(tmp_path / "valid.tsv")
    with pytest.raises(InputError, match=r"no manifest .*/x/valid\.tsv; write one"):
        Manifest(tmp_path / "x" / "valid.tsv")


def test_joined_manifest_concatenates_manifests(tmp_path):
    """Each row keeps the lengths, paths and location that it has in its own manifest."""
    parts = []
    for folder, count in (("a", 2), ("b", 1), ("c", 3)):
        rows = [
            {"id": f"{folder}{i}", "audio": f"{i}.wav", "n_frames": 10 * len(parts) + i}
            | ({"video": "v.mp4", "video_frames": i + 1} if i else {})
            for i in range(count)
        ]
        write_manifest(tmp_path / folder / "train.tsv", rows)
        parts.append(Manifest(tmp_path / folder / "train.tsv"))
    joined = pickle.loads(pickle.dumps(JoinedManifest(parts)))
    locations = [(part, row) for part in parts for row in range(len(part))]
    assert len(joined) == len(locations) == 6
    assert joined.n_frames.tolist() == [part.n_frames[row] for part, row in locations]
    assert joined.video_frames.tolist() == [0, 2, 0, 0, 2, 3]
    assert joined.filled("video", "audio").tolist() == [
        [bool(part.column("video")[row]), True] for part, row in locations
    ]
    for number, (part, row) in enumerate(locations):
        assert joined.where(number) == part.where(row)
        for root in (None, tmp_path):
            assert joined.resolve("audio", number, root) == part.resolve("audio", row, root)
    assert all(str(part.path) in joined.path for part in parts)


def test_absent_columns_are_empty_and_bounded(tmp_path):
    speakers = manifest(tmp_path, HEADER + "a\ta.wav\t1\tx\nb\tb.wav\t2\ty\n").column("speaker")
    assert list(speakers) == ["", ""]
    with pytest.raises(IndexError):
        speakers[2]


def test_columns_behave_like_lists(tmp_path):
    ids = manifest(tmp_path, HEADER + "".join(f"{c}\t{c}.wav\t1\t\n" for c in "abcd")).column("id")
    assert (ids[-1], ids[1:3], ids[np.int64(2)], len(ids)) == ("d", ["b", "c"], "c", 4)
    with pytest.raises(IndexError):
        ids[4]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_blank_lines_byte_order_mark_and_line_ends(tmp_path, newline):
    text = newline.join(
        ["\ufeffid\taudio\tn_frames\ttgt_text", "a\ta.wav\t1\tx", "", "b\tb.wav\t2\ty"]
    )
    read = manifest(tmp_path, text)
    assert list(read.column("tgt_text")) == ["x", "y"]
    assert read.where(1) == f"{tmp_path / 'train.tsv'}, line 4 (b)"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["train.tsv", "empty"]),
        (HEADER, ["train.tsv", "no rows"]),
        ("id\taudio\na\ta.wav\n", ["train.tsv", "n_frames"]),
        ("id\taudio\tn_frames\na\ta.wav\t1\n", ["train.tsv", "tgt_text"]),
        (
            HEADER + "a\ta.wav\t1\tx\n\nb\tb.wav\tmany\tx\n",
            ["train.tsv, line 4", "n_frames", "many"],
        ),
        (HEADER + "a\ta.wav\t-3\tx\n", ["line 2", "n_frames", "-3"]),
        (HEADER + "a\ta.wav\t1.5\tx\n", ["line 2", "n_frames", "1.5"]),
        (HEADER + "a\ta.wav\t99999999999\tx\n", ["line 2", "n_frames", "99999999999"]),
        (HEADER + "a\ta.wav\t\tx\n", ["line 2", "column n_frames is empty"]),
        (HEADER + "a\t\t1\tx\n", ["line 2", "column audio is empty"]),
        (HEADER + "\ta.wav\t1\tx\n", ["line 2", "column id is empty"]),
        (HEADER.strip() + "\taudio\na\ta.wav\t1\tx\tb.wav\n", ["train.tsv", "audio twice"]),
        (HEADER + "a\ta.wav\t1\tx\nb\tb.wav\t1\n", ["line 3", "3 cells", "4"]),
        (HEADER + "a\ta.wav\t1\tx\ty\n", ["line 2", "5 cells"]),
        (HEADER + "a\ta.wav\t1\tx\nb\tb.wav\t1\tx\na\tc.wav\t1\tx\n", ["line 4", "'a'", "line 2"]),
        (HEADER.encode() + b"a\ta.wav\t1\tx\nb\tb.wav\t1\t\xff\n", ["line 3", "UTF-8"]),
        (
            "id\taudio\tn_frames\ttgt_text\tvideo_frames\na\ta.wav\t1\tx\tfew\n",
            ["line 2", "video_frames", "few"],
        ),
    ],
)
def test_errors_name_file_line_and_column(tmp_path, text, parts):
    with pytest.raises(InputError) as caught:
        manifest(tmp_path, text, needs=["tgt_text"])
    assert [p for p in parts if p not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_white_space_lines_and_doubled_line_breaks_are_stripped(tmp_path):
    """As ``str.strip`` does: Unicode spaces, and the line breaks left by writing CRLF twice."""
    lines = ["id\taudio\tn_frames\tvideo\n", "\u3000\n", "a\ta.wav\t5\t\r\r\n"]
    read = manifest(tmp_path, "".join([*lines, "\u00a0 \n", "\u00e9\tb.wav\t6\tb.mp4\r\r\n"]))
    assert list(read.column("id")) == ["a", "\u00e9"]
    assert read.filled("video", "audio").tolist() == [[False, True], [True, True]]
    with pytest.raises(InputError, match="column id is empty"):
        manifest(tmp_path, "audio\tn_frames\tid\r\na.wav\t7\t\r\r\n")
    with pytest.raises(InputError, match="'a' is also on line 2"):
        manifest(tmp_path, "audio\tn_frames\tid\na.wav\t7\ta\r\nb.wav\t7\ta\r\r\n")


def test_each_block_is_scanned_once(tmp_path, monkeypatch):
    """The work must not grow with the square of the number of blocks."""
    monkeypatch.setattr("mmpt_fairseq.data.manifest.BLOCK_ROWS", 10)
    scanned, bits = [], data_manifest._bits

    def counting(filled, *names):
        scanned.append(len(filled))
        return bits(filled, *names)

    monkeypatch.setattr(data_manifest, "_bits", counting)
    manifest(tmp_path, HEADER + "".join(f"{i}\t{i}.wav\t1\t\n" for i in range(200)))
    assert sum(scanned) == 200


def test_errors_are_found_after_the_first_block(tmp_path, monkeypatch):
    """Each row is in a block of its own, which begins and ends with blank lines."""
    monkeypatch.setattr("mmpt_fairseq.data.manifest.BLOCK_ROWS", 2)
    good = [f"{c}\t{c}.wav\t{i}\tx\n\n" for i, c in enumerate("abcd")]
    assert manifest(tmp_path, HEADER + "\n".join(good)).n_frames.tolist() == [0, 1, 2, 3]
    errors = {"e\te.wav\t9\n": "3 cells", "e\t\t9\tx\n": "audio is empty", "a\te\t9\tx\n": "'a'"}
    for row, message in errors.items():
        with pytest.raises(InputError, match=f"line 10.*{message}"):
            manifest(tmp_path, HEADER + "".join(good) + row)
    with pytest.raises(InputError, match="line 10 is not UTF-8"):
        manifest(tmp_path, (HEADER + "".join(good) + "e\te.wav\t9\t").encode() + b"\xff\n")


def test_error_of_a_missing_manifest_names_it(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path / "none.tsv")):
        Manifest(tmp_path / "none.tsv")


@pytest.mark.parametrize(
    "row",
    [
        {"id": "a", "audio": "a.wav"},
        {"id": "", "audio": "a.wav", "n_frames": 1},
        {"id": "a", "audio": "a.wav", "n_frames": 1, "colour": "red"},
        {"id": "a", "audio": "a.wav", "n_frames": 1, "tgt_text": "two\tcells"},
        {"id": "a", "audio": "a.wav", "n_frames": 1, "tgt_text": "two\nlines"},
    ],
)
def test_invalid_row_keeps_the_old_manifest(tmp_path, row):
    path = tmp_path / "a.tsv"
    write_manifest(path, [{"id": "old", "audio": "old.wav", "n_frames": 1}])
    with pytest.raises(InputError):
        write_manifest(path, [row])
    assert list(Manifest(path).column("id")) == ["old"]


def test_paths_are_relative_to_the_manifest_or_the_root(tmp_path):
    read = manifest(tmp_path, HEADER + "a\tx/a.zip:5:9\t1\t\nb\t/abs/b.wav\t1\t\n")
    assert read.resolve("audio", 0) == os.path.join(tmp_path, "x/a.zip:5:9")
    assert read.resolve("audio", 0, "/root") == "/root/x/a.zip:5:9"
    assert read.resolve("audio", 1, "/root") == "/abs/b.wav"
    assert read.resolve("video", 0, "/root") == ""


def test_rows_do_not_allocate_python_objects(tmp_path):
    def allocations(count):
        rows = "".join(f"clip{i}\tfolder/{i}.wav\t{i}\tsome words {i}\n" for i in range(count))
        path = tmp_path / f"{count}.tsv"
        path.write_text(HEADER + rows)
        gc.collect()
        tracemalloc.start()
        read = Manifest(path)
        gc.collect()
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
        assert read.column("id")[count - 1] == f"clip{count - 1}"
        totals = snapshot.statistics("filename")
        return sum(s.count for s in totals), sum(s.size for s in totals)

    few, many = allocations(100), allocations(50_000)
    assert many[0] - few[0] < 100  # objects
    assert many[1] / 50_000 < 48  # bytes per row


def test_unpickled_manifest_maps_the_file_again(tmp_path):
    rows = "".join(f"clip{i}\t{'x' * 200}.wav\t{i}\t{i}\n" for i in range(1000))
    read = manifest(tmp_path, HEADER + rows)
    data = pickle.dumps(read)
    assert len(data) < 60_000  # the text itself has more than 200,000
    again = pickle.loads(data)
    assert [again.fields(i) for i in (0, 999)] == [read.fields(i) for i in (0, 999)]
    assert np.array_equal(again.n_frames, read.n_frames)


def test_manifests_are_compatible_with_fairseq(tmp_path):
    texts = ["plain", 'a "quoted" word', "it's \\ back", " spaces  kept ", "ünïcödé ｆｕｌｌ"]
    rows = "".join(f"i{i}\tfbank80.zip:{i}:7\t{i + 1}\t{t}\tspk\n" for i, t in enumerate(texts))
    (tmp_path / "dev.tsv").write_text("id\taudio\tn_frames\ttgt_text\tspeaker\n" + rows)
    write_manifest(
        tmp_path / "ours.tsv",
        [
            {"id": f"i{i}", "audio": "a.wav", "n_frames": 1, "tgt_text": t, "speaker": "spk"}
            for i, t in enumerate(texts)
        ],
    )
    for split in ("dev", "ours"):
        theirs = SpeechToTextDatasetCreator._load_samples_from_tsv(str(tmp_path), split)
        read = Manifest(tmp_path / f"{split}.tsv")
        assert [dict(zip(read.columns, read.fields(i), strict=True)) for i in range(5)] == theirs


def test_video_only_rows_must_be_allowed(tmp_path):
    rows = [
        {"id": "a", "audio": "a.wav", "n_frames": 7},
        {"id": "b", "video": "b.mp4", "video_frames": 31},
    ]
    write_manifest(tmp_path / "train.tsv", rows)
    read = Manifest(tmp_path / "train.tsv", allow_video_only=True)
    assert read.n_frames.tolist() == [7, 0]
    assert list(read.column("audio")) == ["a.wav", ""]
    assert read.filled("audio", "video", "n_frames").tolist() == [
        [True, False, True],
        [False, True, False],
    ]
    with pytest.raises(InputError, match=r"line 3, column audio is empty; .* task.use_video=true"):
        Manifest(tmp_path / "train.tsv")
    with pytest.raises(InputError, match="missing columns"):
        write_manifest(tmp_path / "train.tsv", [{"id": "c"}])
    lines = (tmp_path / "train.tsv").read_text().replace("b.mp4", "")
    (tmp_path / "train.tsv").write_text(lines)
    with pytest.raises(InputError, match="line 3, column audio is empty"):
        Manifest(tmp_path / "train.tsv", allow_video_only=True)
