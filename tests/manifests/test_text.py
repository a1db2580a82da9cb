"""Normalisation of texts in manifests."""

import io

import pytest

from manifests.text import RULES, clean, lrs3, main, plain, read_lines, sentence_key, spoken
from mmpt_fairseq.scoring import normalise_text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("I &amp; you &quot;too&quot;", 'I & you "too"'),
        ("cafe\u0301", "caf\u00e9"),
        (" a\tb\r\nc\u2028d\u00a0e ", "a b c d e"),
        ("zero\u200bwidth\ufeff soft\u00adhyphen", "zerowidth softhyphen"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("AT&amp;amp;T &amp;quot;", 'AT&T "'),
        ("e\u200b\u0301", "\u00e9"),
        ("\u0600123 \u06dd45", "\u0600123 \u06dd45"),  # Arabic signs around numbers are visible
        ("", ""),
    ],
)
def test_clean(raw, expected):
    assert clean(raw) == expected
    assert clean(clean(raw)) == clean(raw)
    assert normalise_text(clean(raw)) == clean(raw)  # scoring changes nothing


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("(Applause)", ""),
        ("Thank you. (Laughter) Bye.", "Thank you. Bye."),
        ("Chris Anderson: Well, yes.", "Well, yes."),
        ("CA: Yes.", "Yes."),
        ("-- and then", "and then"),
        ("♫ la la ♫ [Music]", "la la"),
        ("At 10:30 we left: all of us.", "At 10:30 we left: all of us."),
        ("And he said: no.", "And he said: no."),
        ("This is it: the end.", "This is it: the end."),
        ("Audience: No!", "No!"),
        ("Question: who is it?", "Question: who is it?"),
        ("Jean-Luc O'Neill Jr.: Oui.", "Oui."),
        ("JOHN: Hello", "Hello"),
        ("John: hey", "hey"),
        ("WOMAN 2: Run!", "Run!"),
        ("Audience member: Why?", "Why?"),
        (">> Hi", "Hi"),
        ("&gt;&gt; JOHN: Hi", "Hi"),
        ("- Hi.\n-Hello.", "Hi. Hello."),
        ("[dramatic music\nplaying] MR. SMITH: Go", "Go"),
        ("Who is it?\nJOHN:\nMe.", "Who is it? Me."),
        ("（拍手）はい 【音楽】", "はい"),
        ("Mary：你好", "你好"),
        ("(Laughter (Applause)) Bye.", "Bye."),
        ("DNA: the code of life", "DNA: the code of life"),
        ("US: we", "US: we"),
        ("The end: nothing.", "The end: nothing."),
        ("Das Problem: wir.", "Das Problem: wir."),
        ("John:Hi", "John:Hi"),
        ("-5 degrees", "-5 degrees"),
        ("It is 5:00: go", "It is 5:00: go"),
    ],
)
def test_spoken_keeps_only_speech(raw, expected):
    assert spoken(raw) == expected


@pytest.mark.parametrize("name", RULES)
def test_rules_are_idempotent(name):
    """So that they do not change a hypothesis without mark-up."""
    rule = RULES[name]
    for raw in [
        "CA: (Laughter) &amp;lt;i> -- JOHN: e\u200b\u0301",
        "{NS} <UNK> (a (b)",
        ">> - A: B: c",
        "'- İ ’ŒUVRE-'",
    ]:
        assert rule(rule(raw)) == rule(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("“Hello,” she said -- twice!", "hello she said twice"),
        ("Don’t… rock-and-roll, 'cause 3.5 %", "don't rock-and-roll cause 3 5"),
        ("¿Qué? Ça va; ÉTÉ.", "qué ça va été"),
        ("kyéma — ikóó wó, adí SΩNDΩ", "kyéma ikóó wó adí sωndω"),
        ("नमस्ते, दुनिया।", "नमस्ते दुनिया"),
        ("- ' -", ""),
        ("donʼt, don´t: yes--no rock\u2011and-roll", "don't don't yes no rock-and-roll"),
        ("I ❤\ufe0f you 👨\u200d👩", "i you"),
        ("می\u200cروم!", "می\u200cروم"),
        ("La col·lecció · צה״ל", "la col·lecció צה״ל"),
    ],
)
def test_plain_keeps_words_without_punctuation(raw, expected):
    assert plain(raw) == expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The cat sat, on the mat.", "the cat sat on the mat", True),
        ("किताब", "कताब", False),  # a vowel sign
        ("คน ไป", "คน ไป่", False),  # a tone mark
        ("kɔ\u0301ba", "kɔ\u0300ba", False),  # a tone mark without a precomposed letter
        ("Straße", "STRASSE", True),
    ],
)
def test_which_sentences_count_as_the_same(one, other, same):
    assert (sentence_key(one) == sentence_key(other)) is same


def test_the_command_applies_a_rule_to_lines(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("CA: Yes.\n(Applause)\nno\n"))
    main(["spoken"])
    assert capsys.readouterr().out == "Yes.\n\nno\n"


def test_lines_are_decoded_by_byte_order_mark_and_invalid_bytes_kept(tmp_path):
    (tmp_path / "a").write_bytes("è\u2028é\r\nb".encode("utf-16"))
    assert [clean(line) for line in read_lines(tmp_path / "a")] == ["è é", "b"]
    (tmp_path / "b").write_bytes(b"\xef\xbb\xbfna\xefve\nok")
    bad, good = map(clean, read_lines(tmp_path / "b"))
    assert (bad, good) == ("na\udcefve", "ok")


def test_lrs3_noise_marks_are_removed():
    assert lrs3("I {NS} DON'T <UNK> KNOW") == "i don't know"
