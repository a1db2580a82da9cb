"""Annotations of ELAN and Praat beside recordings become segments."""

import pytest

from manifests.errors import InputError
from manifests.folder import RECIPE
from manifests.prepare import main
from tests.manifests.annotations import ELAN, PRAAT, SHORT
from tests.manifests.corpora import make_audio, make_video, rows, run, skipped, text


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".eaf", ELAN),
        (".TextGrid", PRAAT.replace("text", "text@A").replace("french", "french@A").encode()),
        (".TextGrid", PRAAT.replace("text", "text@A").encode("utf-16")),
    ],
)
def test_a_tier_of_annotations_beside_a_recording(tmp_path, suffix, content):
    make_video(tmp_path / "c" / "talk.mp4", seconds=2)
    (tmp_path / "c" / f"talk{suffix}").write_bytes(content)
    text(tmp_path / "c" / "talk.txt", "is not used")
    run("folder", tmp_path / "c", tmp_path / "out", "--tier", "text@A", "--valid-every", "0")
    found = rows(tmp_path / "out" / "train.tsv")
    if suffix == ".eaf":
        assert [row["tgt_text"] for row in found] == ["bóra", "wa yali & bo"]
        assert [int(row["n_frames"]) for row in found] == [33, 98]  # 350 ms and 1 s
        assert [row["video"].rpartition("/")[2] for row in found] == [
            "talk.mp4:2:9",
            "talk.mp4:12:25",
        ]
    else:
        assert [row["tgt_text"] for row in found] == ['she said "3 ! <b>" and left']


def test_translations_and_transcripts_of_two_tiers(tmp_path, capsys):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    (tmp_path / "c" / "talk.eaf").write_bytes(ELAN)
    tiers = ["--tier", "text@*", "--source-tier", "french@A", "--valid-every", "0"]
    run("folder", tmp_path / "c", tmp_path / "out", *tiers, "--target-lang", "mdw")
    found = rows(tmp_path / "out" / "train.tsv")
    assert [(row["tgt_text"], row["src_text"]) for row in found] == [
        ("bóra", ""),
        ("wa yali & bo", "ils sont là"),
    ]
    assert skipped(tmp_path / "out") == {
        "talk_0001": "empty transcript",
        "talk_0003": "unusable times",
    }
    assert (
        "3 of 4 texts of talk.eaf have the times of no text in the spoken"
        in capsys.readouterr().err
    )


def test_a_single_tier_with_text_needs_no_name(tmp_path):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    text(tmp_path / "c" / "talk.TextGrid", SHORT)
    run("folder", tmp_path / "c", tmp_path / "out", "--valid-every", "0")
    assert [row["tgt_text"] for row in rows(tmp_path / "out" / "train.tsv")] == ["bóra"]


def test_several_tiers_must_be_chosen_from(tmp_path):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    (tmp_path / "c" / "talk.eaf").write_bytes(ELAN)
    message = r"talk.eaf has several tiers with text \(text@A, french@A, words, text@B\); choose"
    with pytest.raises(InputError, match=message):
        run("folder", tmp_path / "c", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "detail"),
    [
        ("talk.eaf", b"<html>", "talk.eaf is no XML document (no element found"),
        ("talk.eaf", ELAN.replace(b"UTF-8", b"foo"), "is no XML document (unknown encoding: foo)"),
        ("talk.eaf", b"<html/>", "talk.eaf is no ELAN document but <html>"),
        ("talk.eaf", ELAN.replace(b'"500"', b'"0,5"'), "holds '0,5' where a number should be"),
        ("talk.TextGrid", b"ooBinaryFile\x08TextGrid\x81", "is binary; save it in Praat as a text"),
        ("talk.TextGrid", b"x", "talk.TextGrid is no TextGrid; save it in Praat as a text file"),
        (
            "talk.TextGrid",
            PRAAT.replace('"TextGrid"', '"Collection"').encode(),
            "a Collection, not",
        ),
        ("talk.TextGrid", PRAAT[:-40].encode(), "talk.TextGrid ends before its last interval"),
        (
            "talk.TextGrid",
            PRAAT.replace("= 0.25", "= 0,25").encode(),
            "holds '0,25' where a number",
        ),
        (
            "talk.TextGrid",
            PRAAT.replace("size = 3", "size = 2", 1).encode(),
            "more intervals or tiers",
        ),
        (
            "talk.TextGrid",
            PRAAT.replace("intervals: size = 3", "intervals: size = 2").encode(),
            "holds '1.5' where tier 2 should begin",
        ),
    ],
)
def test_unusable_annotations_are_reported(tmp_path, name, content, detail):
    for recording in ("talk", "other"):
        make_audio(tmp_path / "c" / f"{recording}.wav", 2)
    (tmp_path / "c" / name).write_bytes(content)
    text(tmp_path / "c" / "other.TextGrid", SHORT)
    run("folder", tmp_path / "c", tmp_path / "out", "--tier", "text", "--valid-every", "0")
    assert skipped(tmp_path / "out") == {"talk": "unreadable text"}
    assert detail in (tmp_path / "out" / "skipped.tsv").read_text(encoding="utf-8")
    assert len(rows(tmp_path / "out" / "train.tsv")) == 1


def test_recordings_whose_tiers_have_other_names(tmp_path, capsys):
    """A missing tier is one clip in the count, but a whole recording: the warning is loud."""
    for recording in ("talk", *(f"other{i}" for i in range(30))):
        make_audio(tmp_path / "c" / f"{recording}.wav", 2)
        text(tmp_path / "c" / f"{recording}.TextGrid", SHORT)
    (tmp_path / "c" / "talk.TextGrid").unlink()
    (tmp_path / "c" / "talk.eaf").write_bytes(ELAN)
    with pytest.raises(
        InputError, match=r"\(31 no such tier; other0.TextGrid has no tier 'french'"
    ):
        run("folder", tmp_path / "c", tmp_path / "out", "--tier", "french")
    main(RECIPE, [str(tmp_path / "c"), str(tmp_path / "one"), "--tier", "text"])
    assert skipped(tmp_path / "one") == {"talk": "no such tier"}
    assert "WARNING: 1 of 31 clips" in capsys.readouterr().err
    both = ["--tier", "text", "--tier", "text@A", "--valid-every", "0"]
    run("folder", tmp_path / "c", tmp_path / "two", *both)
    assert skipped(tmp_path / "two") == {}
    assert len(rows(tmp_path / "two" / "train.tsv")) == 32


def test_translations_are_matched_by_reference_before_time(tmp_path):
    """Two speakers talk at the same time."""
    make_audio(tmp_path / "c" / "talk.wav", 2)
    annotation = (
        '<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{0}" TIME_SLOT_REF1="s" '
        'TIME_SLOT_REF2="e"><ANNOTATION_VALUE>said {0}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>'
        "</ANNOTATION>"
    )
    reference = (
        '<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{0}2" ANNOTATION_REF="{0}"><ANNOTATION_VALUE>'
        "meant {0}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )
    tiers = "".join(
        f'<TIER TIER_ID="tx@{name}">{annotation.format(name)}</TIER>'
        f'<TIER TIER_ID="ft@{name}">{reference.format(name)}</TIER>'
        for name in "ab"
    )
    slots = (
        '<TIME_SLOT TIME_SLOT_ID="s" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="e" TIME_VALUE="900"/>'
    )
    document = f"<ANNOTATION_DOCUMENT><TIME_ORDER>{slots}</TIME_ORDER>{tiers}</ANNOTATION_DOCUMENT>"
    text(tmp_path / "c" / "talk.eaf", document)
    tiers = ["--tier", "ft@*", "--source-tier", "tx@*"]
    run("folder", tmp_path / "c", tmp_path / "out", *tiers, "--valid-every", "0")
    found = {(row["tgt_text"], row["src_text"]) for row in rows(tmp_path / "out" / "train.tsv")}
    assert found == {("meant a", "said a"), ("meant b", "said b")}


def test_a_missing_source_tier_leaves_the_targets(tmp_path, capsys):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    (tmp_path / "c" / "talk.eaf").write_bytes(ELAN)
    tiers = ["--tier", "text@A", "--source-tier", "spoken", "--valid-every", "0"]
    run("folder", tmp_path / "c", tmp_path / "out", *tiers)
    assert [row["src_text"] for row in rows(tmp_path / "out" / "train.tsv")] == ["", ""]
    assert "2 of 2 texts of talk.eaf have the times of no text" in capsys.readouterr().err


def test_annotations_of_two_languages_in_two_files(tmp_path):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    text(tmp_path / "c" / "talk.mdw.TextGrid", SHORT)
    text(tmp_path / "c" / "talk.fr.TextGrid", SHORT.replace("bóra", "soleil"))
    languages = ["--source-lang", "mdw", "--target-lang", "fr", "--valid-every", "0"]
    run("folder", tmp_path / "c", tmp_path / "out", *languages)
    [row] = rows(tmp_path / "out" / "train.tsv")
    assert (row["tgt_text"], row["src_text"]) == ("soleil", "bóra")


def test_a_chosen_tier_is_preferred_to_other_texts(tmp_path, capsys):
    """And another text is used if annotations have none."""
    for name in ("a", "b"):
        make_audio(tmp_path / "c" / f"{name}.wav", 2)
        text(tmp_path / "c" / f"{name}.fr.txt", "is not used" if name == "a" else "is used")
    text(tmp_path / "c" / "a.TextGrid", SHORT)
    text(tmp_path / "c" / "b.TextGrid", SHORT.replace("bóra", ""))
    run(
        *("folder", tmp_path / "c", tmp_path / "out", "--target-lang", "fr"),
        *("--tier", "text", "--valid-every", "0"),
    )
    assert [row["tgt_text"] for row in rows(tmp_path / "out" / "train.tsv")] == ["bóra", "is used"]
    assert "note: no text in b.TextGrid; b.fr.txt is used instead" in capsys.readouterr().err


def test_annotations_are_named_after_their_recordings(tmp_path, capsys):
    make_audio(tmp_path / "c" / "TALK.WAV", 2)
    text(tmp_path / "c" / "talk.TextGrid", SHORT)
    text(tmp_path / "c" / "talk_v2.TextGrid", SHORT)
    text(tmp_path / "c" / "readme.txt", "of no recording, which is not worth a word")
    run("folder", tmp_path / "c", tmp_path / "out", "--valid-every", "0")
    assert [row["tgt_text"] for row in rows(tmp_path / "out" / "train.tsv")] == ["bóra"]
    message = "ignored: 1 annotations or subtitles without a recording of the same name beside them"
    assert f"{message}, such as talk_v2.TextGrid" in capsys.readouterr().err


def test_a_tier_without_annotations_is_refused(tmp_path):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    text(tmp_path / "c" / "talk.txt", "hello")
    with pytest.raises(InputError, match=r"has an \.eaf or \.TextGrid of its name"):
        run("folder", tmp_path / "c", tmp_path / "out", "--tier", "text")
    table = text(tmp_path / "clips.csv", "file,text", "talk.wav,hello")
    with pytest.raises(InputError, match="a table has columns"):
        run("folder", tmp_path / "c", tmp_path / "out", "--tier", "text", "--csv", str(table))
