"""Noun phrases in English, German, Dutch and Italian: determiners and inflected adjectives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .lexicon import Adjective, Noun

if TYPE_CHECKING:
    from .clauses import Clause

LANGUAGES = ("en", "de", "nl", "it")
NUMERALS = {
    "three": ("drei", "drie", "tre"),
    "five": ("fünf", "vijf", "cinque"),
    "six": ("sechs", "zes", "sei"),
    "seven": ("sieben", "zeven", "sette"),
    "ten": ("zehn", "tien", "dieci"),
}
DEFINITE = ("the", "this", "my", "our", "his", "her")
QUANTIFIERS = (*NUMERALS, "many", "some")

# German: gender, or "p" for plural -> nominative, accusative, dative
_CASES = {"nom": 0, "acc": 1, "dat": 2}
_DE_THE = {
    "m": ("der", "den", "dem"),
    "f": ("die", "die", "der"),
    "n": ("das", "das", "dem"),
    "p": ("die", "die", "den"),
}
_DE_STRONG = {  # endings of dies-, jed-, viel-, einig-
    "m": ("er", "en", "em"),
    "f": ("e", "e", "er"),
    "n": ("es", "es", "em"),
    "p": ("e", "e", "en"),
}
_DE_MIXED = {**_DE_STRONG, "m": ("", "en", "em"), "n": ("", "", "em")}  # endings of ein-, mein-
_DE_ADJECTIVE_WEAK = {
    "m": ("e", "en", "en"),
    "f": ("e", "e", "en"),
    "n": ("e", "e", "en"),
    "p": ("en", "en", "en"),
}
_DE_ADJECTIVE_MIXED = {**_DE_ADJECTIVE_WEAK, "m": ("er", "en", "en"), "n": ("es", "es", "en")}
_DE_STEMS = {"this": "dies", "every": "jed", "many": "viel", "some": "einig"}
_DE_EIN = {"a": "ein", "my": "mein", "our": "unser", "his": "sein", "her": "ihr"}

_NL = {  # de-word, het-word, plural
    "the": ("de", "het", "de"),
    "this": ("deze", "dit", "deze"),
    "a": ("een", "een", ""),
    "every": ("elke", "elk", ""),
    "my": ("mijn", "mijn", "mijn"),
    "our": ("onze", "ons", "onze"),
    "his": ("zijn", "zijn", "zijn"),
    "her": ("haar", "haar", "haar"),
    "many": ("", "", "veel"),
    "some": ("", "", "enkele"),
}

_IT_POSSESSIVE = {  # m, f, m plural, f plural
    "my": ("mio", "mia", "miei", "mie"),
    "our": ("nostro", "nostra", "nostri", "nostre"),
    "his": ("suo", "sua", "suoi", "sue"),
    "her": ("suo", "sua", "suoi", "sue"),
}
_IT_CONTRACTED = {  # preposition and article
    "a": {"il": "al", "lo": "allo", "la": "alla", "l'": "all'", "i": "ai", "gli": "agli"},
    "di": {"il": "del", "lo": "dello", "la": "della", "l'": "dell'", "i": "dei", "gli": "degli"},
}
_IT_CONTRACTED["a"]["le"], _IT_CONTRACTED["di"]["le"] = "alle", "delle"
_ELISION = re.compile(r"\b(l|un|quest|all|dell)' ")
_IT_ARTICLES = frozenset(_IT_CONTRACTED["a"])


def join(*words: str) -> str:
    """Join words by single spaces, without a space after an Italian elision such as "l'"."""
    return _ELISION.sub(r"\1'", " ".join(word for word in words if word))


def italian_article(word: str, gender: str, plural: bool) -> str:
    """The Italian definite article for the following `word`."""
    vowel = word[0] in "aeiouhàèéìòù"
    impure = word[0] in "zxy" or word.startswith(("gn", "ps", "pn")) or _s_and_consonant(word)
    if gender == "f":
        return "le" if plural else "l'" if vowel else "la"
    if plural:
        return "gli" if vowel or impure else "i"
    return "l'" if vowel else "lo" if impure else "il"


def _s_and_consonant(word: str) -> bool:
    return len(word) > 1 and word[0] == "s" and word[1] not in "aeiou"


def _italian_determiner(det: str, word: str, gender: str, plural: bool) -> str:
    article = italian_article(word, gender, plural)
    elided, feminine = article == "l'", gender == "f"
    indefinite = {"l'": "un'" if feminine else "un", "la": "una", "lo": "uno"}.get(article, "un")
    this = ("questo", "questa", "questi", "queste")[2 * plural + feminine]
    words = {
        "the": article,
        "a": indefinite,
        "this": "quest'" if elided else this,
        "every": "ogni",
        "many": "molte" if feminine else "molti",
        "some": "alcune" if feminine else "alcuni",
    }
    return words[det] if det in words else NUMERALS[det][2]


@dataclass(frozen=True)
class NounPhrase:
    """A determiner, an optional adjective, a noun and an optional relative clause."""

    noun: Noun
    det: str
    plural: bool = False
    adjective: Adjective | None = None
    relative: Clause | None = None

    @property
    def person(self) -> str:
        return "3p" if self.plural else "3s"

    @property
    def definite(self) -> bool:
        return self.det in DEFINITE

    @property
    def it_form(self) -> int:
        """Index of the agreeing Italian form: m, f, m plural, f plural."""
        return 2 * self.plural + (self.noun.it_gender == "f")

    def text(self, lang: str, case: str = "nom", preposition: str = "") -> str:
        """The phrase; `preposition` is an Italian "a" or "di" that contracts with the article."""
        if lang == "en":
            words = self._english()
        elif lang == "de":
            words = self._german(case)
        elif lang == "nl":
            words = self._dutch()
        else:
            words = self._italian(preposition)
        if self.relative is None:
            return words
        return join(words, self._relative_pronoun(lang), self.relative.subordinate(lang, False))

    def _english(self) -> str:
        head = join(self.adjective.en if self.adjective else "", self.noun.en[self.plural])
        det = {"this": "these"}.get(self.det, self.det) if self.plural else self.det
        if det == "a" and head[0] in "aeiou":
            det = "an"
        return join(det, head)

    def _german(self, case: str) -> str:
        gender, column = "p" if self.plural else self.noun.de_gender, _CASES[case]
        endings = _DE_ADJECTIVE_WEAK
        if self.det == "the":
            det = _DE_THE[gender][column]
        elif self.det in _DE_EIN:
            det = _DE_EIN[self.det] + _DE_MIXED[gender][column]
            endings = _DE_ADJECTIVE_MIXED
        elif self.det in NUMERALS:
            det, endings = NUMERALS[self.det][0], _DE_STRONG
        else:
            det = _DE_STEMS[self.det] + _DE_STRONG[gender][column]
            endings = _DE_STRONG if self.det in ("many", "some") else endings
        noun = self.noun.de[self.plural]
        if self.plural and case == "dat" and not noun.endswith(("n", "s")):
            noun += "n"
        if not self.plural and case != "nom":
            noun = self.noun.de_oblique
        adjective = self.adjective.de_stem + endings[gender][column] if self.adjective else ""
        return join(det, adjective, noun)

    def _dutch(self) -> str:
        neuter = self.noun.nl_gender == "het"
        if self.det in NUMERALS:
            det = NUMERALS[self.det][1]
        else:
            det = _NL[self.det][2 if self.plural else int(neuter)]
        adjective = ""
        if self.adjective:
            bare = neuter and not self.plural and self.det in ("a", "every")
            adjective = self.adjective.nl if bare else self.adjective.nl_inflected
        return join(det, adjective, self.noun.nl[self.plural])

    def _italian(self, preposition: str) -> str:
        noun, gender = self.noun.it[self.plural], self.noun.it_gender
        adjective = self.adjective.it[self.it_form] if self.adjective else ""
        if self.det in _IT_POSSESSIVE:
            possessive = _IT_POSSESSIVE[self.det][self.it_form]
            # Singular kinship nouns take no article: "mio fratello".
            bare = "k" in self.noun.classes and not self.plural and not adjective
            article = "" if bare else italian_article(possessive, gender, self.plural)
            det = (article, possessive)
        else:
            det = (_italian_determiner(self.det, noun, gender, self.plural),)
        if preposition and det[0] in _IT_ARTICLES:
            det = (_IT_CONTRACTED[preposition][det[0]], *det[1:])
        elif preposition:
            det = (preposition, *det)
        return join(*det, noun, adjective)

    def _relative_pronoun(self, lang: str) -> str:
        if lang == "de":
            return _DE_THE["p" if self.plural else self.noun.de_gender][0]
        if lang == "nl":
            return "dat" if self.noun.nl_gender == "het" and not self.plural else "die"
        return {"en": "who", "it": "che"}[lang]


@dataclass(frozen=True)
class Pronoun:
    """A personal pronoun; empty in Italian where the verb form identifies the person."""

    words: tuple[str, str, str, str]  # en, de, nl, it
    person: str
    it_form: int

    def text(self, lang: str, case: str = "nom") -> str:
        return self.words[LANGUAGES.index(lang)]


I = Pronoun(("i", "ich", "ik", ""), "1s", 0)  # noqa: E741
WE = Pronoun(("we", "wir", "wij", ""), "1p", 2)
HE = Pronoun(("he", "er", "hij", "lui"), "3s", 0)
SHE = Pronoun(("she", "sie", "zij", "lei"), "3s", 1)
THEY = Pronoun(("they", "sie", "zij", ""), "3p", 2)
WEATHER = Pronoun(("it", "es", "het", ""), "3s", 0)
THERE = Pronoun(("there", "es", "er", ""), "3s", 0)
