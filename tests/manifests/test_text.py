"""Texts as they stand in manifests."""

import pytest

from manifests.text import clean, lrs3, spoken


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
        ("", ""),
    ],
)
def test_clean(raw, expected):
    assert clean(raw) == expected
    assert clean(clean(raw)) == clean(raw)


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
    ],
)
def test_what_is_said(raw, expected):
    assert spoken(raw) == expected


def test_lrs3_marks():
    assert lrs3("I {NS} DON'T <UNK> KNOW") == "i don't know"
