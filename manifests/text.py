"""Normalisation of the texts in manifests: one rule for all corpora, and each corpus's mark-up.

Models are trained on ``tgt_text`` and scored against it; scoring itself only applies NFC and
normalises white space, as :func:`clean` already has. Each rule is a function of the text alone and
is idempotent, so that it can also be applied to hypotheses of other systems::

    python -m manifests.text spoken < hypotheses.txt > comparable.txt
"""

from __future__ import annotations

import argparse
import codecs
import html
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

_INVISIBLE = {"Cc", "Cf"}  # control and format characters
_JOINERS = "\u200c\u200d"  # needed in Persian and in Indian scripts
# Format characters that are visible, around the digits after them (Prepended_Concatenation_Mark).
_SHOWN = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
# Within words: "don't", "rock-and-roll", Catalan's "col·lecció", Hebrew's abbreviations.
_WORD_MARKS = "'-·׳״"
_MARKS = {**dict.fromkeys("’ʼ‘′´＇", "'"), **dict.fromkeys("\u2010\u2011", "-")}
_MARK_VARIANT = re.compile(f"[{''.join(_MARKS)}]")
_EVENT = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|（[^（）]*）|［[^［］]*］|【[^【】]*】|♫|♪")
_NOISE = re.compile(r"\{[^{}]*\}|<[^<>]*>")

# A possible speaker label: one to three words before a colon ("Chris Anderson", "WOMAN 2").
_WORD = r"[^\W\d_][\w.'’-]*"
_LABEL = re.compile(rf"({_WORD}(?: (?:{_WORD}|#?\d+)){{0,2}}) ?(?::\s|：|:$)")
# Marks a change of speaker; not a minus sign.
_DASH = re.compile(r">{2,}\s*|(?:--?|[–—])(?:\s+|(?=[^\W\d]))")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Roles, after which a lower-case word may follow: "Audience member:".
_ROLES = _words(
    """announcer audience boy child crowd girl host interviewer man narrator student video voice
    woman"""
)
# Words that occur before a colon in speech: "DNA: the code of life", "Question: who is it?".
_BEFORE_COLON = _words(
    """ai aids api bbc ceo cia cnn cpu dna eu faq fbi gdp gps gpu hiv ibm iq it lgbt mit mri nasa
    nato nb ngo nhs nyc ok pc pdf pr ps rna sms suv tb ted tv uk un us usa usb ussr who www
    again and answer because but caution chapter conclusion danger example fact finally first
    here idea imagine lesson lessons listen look meaning no note now number one or part please point
    problem question questions reason remember result rule second so solution step surprise then
    think third three today translation truth two warning well yes
    achtung antwort beispiel ergebnis fazit frage fragen lösung punkt regel schritt"""
)
# Words that begin a phrase rather than a name: "The question: who?", "Das Problem: wir".
_PHRASE = _words(
    """a an at every for her his how if in its my of on our some that the their these this those to
    what when where which why your
    am das dem den der des die dies diese dieser dieses ein eine einem einen einer ihr ihre im kein
    keine mein meine sein seine unser unsere was wer wie"""
)


def clean(text: str) -> str:
    """Decode HTML entities, apply Unicode NFC, remove invisible characters, collapse spaces.

    Bytes that are not UTF-8 (lone surrogates) stay, so that the clip is left out because of them.
    """
    while (decoded := html.unescape(text)) != text:  # "&amp;quot;" occurs
        text = decoded
    return " ".join(unicodedata.normalize("NFC", text.translate(_VISIBLE)).split())


def composed(name: str) -> str:
    """A name in one form of Unicode (NFC); those of files from macOS may be in another."""
    return unicodedata.normalize("NFC", name)


class _Characters(dict):
    """A table for ``str.translate`` that computes a rule once per character.

    Args:
        rule: character -> its replacement.
    """

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self._rule = rule

    def __missing__(self, code: int) -> str:
        return self.setdefault(code, self._rule(chr(code)))


def _drop_invisible(character: str) -> str:
    """Remove characters without width; make white space a space."""
    if character.isspace():
        return " "
    invisible = unicodedata.category(character) in _INVISIBLE and character not in _JOINERS + _SHOWN
    return "" if invisible else character


def _drop_punctuation(character: str) -> str:
    """Keep letters, marks and digits; make anything else a space."""
    letter = character in _JOINERS or unicodedata.category(character)[0] in "LMN"
    return character if letter or character in _WORD_MARKS else " "


_VISIBLE, _LETTERS = _Characters(_drop_invisible), _Characters(_drop_punctuation)


def librispeech(text: str) -> str:
    """Lower case: the release is in capitals."""
    return clean(text).lower()


def lrs3(text: str) -> str:
    """Lower case, without noise marks such as ``{NS}``."""
    return clean(_NOISE.sub(" ", clean(text))).lower()


def spoken(text: str) -> str:
    """Reduce subtitles and talks to the speech: no "(Applause)", "[Music]", "♫", speaker labels.

    A label is one to three capitalised words at the start of a line before a colon and a space
    ("JOHN:", "Chris Anderson:", "CA:", "Woman 2:"), unless the first of them is a word that occurs
    before colons in speech (``DNA: the code``, ``Question: who?``) or begins a phrase
    (``The end:``). ``>>`` and dashes at the start of a line are removed too.
    """
    while (rest := _EVENT.sub(" ", html.unescape(text))) != text:
        text = rest
    return clean(" ".join(_without_label(clean(line)) for line in re.split(r"[\n\r]+", text)))


def plain(text: str) -> str:
    """Lower case without punctuation, except for marks within words; numbers are not spelt out."""
    text = re.sub("--+", " ", _MARK_VARIANT.sub(lambda mark: _MARKS[mark[0]], clean(text)))
    words = (word.strip(_WORD_MARKS) for word in text.translate(_LETTERS).lower().split())
    return clean(" ".join(word for word in words if any(map(str.isalnum, word))))


def sentence_key(text: str) -> str:
    """Key by which sentences are compared: plain text, case-folded."""
    return plain(text).casefold()


def _without_label(line: str) -> str:
    while True:
        start = _DASH.match(line) or _LABEL.match(line)
        if not start or (start.re is _LABEL and not _is_speaker(start[1])):
            return line
        line = line[start.end() :].lstrip()


def _is_speaker(label: str) -> bool:
    words = label.split()
    first = words[0].strip(".").casefold()
    if first in _ROLES:
        return words[0][0].isupper()
    capitals = all(word[0].isupper() or not word[0].isalpha() for word in words)
    return capitals and first not in _BEFORE_COLON and first not in _PHRASE


def encoding_of(path: Path, other: str = "") -> str:
    """Encoding by byte order mark; else UTF-8, or ``other`` if given and the file is not UTF-8.

    Raises:
        OSError: the file cannot be read.
    """
    marks = {
        "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
        "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    }
    with path.open("rb") as file:
        start = file.read(4)
        marked = next((name for name, mark in marks.items() if start.startswith(mark)), "")
        if marked or not other:
            return marked or "utf-8-sig"
        file.seek(0)
        try:
            for _ in codecs.iterdecode(iter(lambda: file.read(1 << 20), b""), "utf-8"):
                pass
        except UnicodeDecodeError:
            return other
    return "utf-8-sig"


def read_lines(path: Path) -> Iterator[str]:
    r"""Lines of a UTF-8 file; a byte that is not UTF-8 becomes a lone surrogate (:func:`clean`).

    Only ``\n`` ends a line: texts hold other characters at which ``str.splitlines`` would split.
    """
    with path.open(encoding=encoding_of(path), errors="surrogateescape", newline="\n") as file:
        yield from file


RULES: dict[str, Callable[[str], str]] = {
    "clean": clean,
    "librispeech": librispeech,
    "lrs3": lrs3,
    "plain": plain,
    "spoken": spoken,
}


def main(arguments: list[str] | None = None) -> None:
    """Apply a rule to the lines of stdin (command line)."""
    parser = argparse.ArgumentParser(
        prog="python -m manifests.text", description="Apply a rule to every line of stdin."
    )
    parser.add_argument("rule", choices=RULES)
    rule = RULES[parser.parse_args(arguments).rule]
    for line in sys.stdin:
        print(rule(line))


if __name__ == "__main__":
    main()
