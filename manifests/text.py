"""Texts as they stand in the manifests: one rule for all corpora, and each corpus's mark-up.

References and hypotheses get the same treatment because a model learns from, and is scored
against, what stands in ``tgt_text``; scoring itself changes nothing but NFC and white space.
"""

from __future__ import annotations

import html
import re
import unicodedata

_INVISIBLE = {"Cc", "Cf", "Cs"}  # control and format characters, half a surrogate pair
_JOINERS = "\u200c\u200d"  # letters of Persian and of Indian scripts depend on them
_EVENT = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|♫|♪")
# TED's subtitles name a speaker in full first ("Chris Anderson:"), then by initials ("CA:").
_ROLES = "Audience|Interviewer|Narrator|Man|Woman|Boy|Girl|Child|Video|Voice|Announcer|Host|Crowd"
_NAME = r"[A-Z][\w.'’-]+"
_SPEAKER = re.compile(rf"^(?:[A-Z]{{2,3}}|{_NAME}(?: {_NAME}){{1,2}}|{_ROLES}):\s+|^--?\s+")
_NOISE = re.compile(r"\{[^{}]*\}|<[^<>]*>")


def clean(text: str) -> str:
    """HTML entities decoded, Unicode NFC, no invisible characters, single spaces."""
    text = unicodedata.normalize("NFC", html.unescape(text))
    text = "".join(" " if c.isspace() else c for c in text if _visible(c))
    return " ".join(text.split())


def _visible(character: str) -> bool:
    if character.isspace() or character in _JOINERS:
        return True
    return unicodedata.category(character) not in _INVISIBLE


def librispeech(text: str) -> str:
    """Lower case: the release shouts."""
    return clean(text).lower()


def lrs3(text: str) -> str:
    """Lower case, without ``{NS}``-like noise marks."""
    return clean(_NOISE.sub(" ", text)).lower()


def spoken(text: str) -> str:
    """Subtitles of talks as what is said: no "(Applause)", "[Music]", "♫", no speaker labels."""
    return clean(_SPEAKER.sub("", clean(_EVENT.sub(" ", clean(text)))))
