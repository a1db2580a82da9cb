"""Parse the nouns, adjectives, places and adverbs of words.py; the verbs are in verbs.py."""

from dataclasses import dataclass, field

from .words import ADJECTIVES, ADVERBS, NOUNS, PLACES


@dataclass(frozen=True)
class Noun:
    """A noun: forms are (singular, plural); a plural of "-" marks an uncountable noun."""

    en: tuple[str, str]
    de: tuple[str, str]
    de_gender: str  # m, f or n
    de_oblique: str  # accusative and dative singular
    nl: tuple[str, str]
    nl_gender: str  # "de" or "het"
    it: tuple[str, str]
    it_gender: str  # m or f
    classes: frozenset[str] = field(default_factory=frozenset)

    @property
    def countable(self) -> bool:
        return self.en[1] != "-"


@dataclass(frozen=True)
class Adjective:
    """An adjective; the comparatives are empty where the grammar uses none."""

    en: str
    de: str
    de_stem: str  # stem that takes the endings: "teur" for "teuer"
    nl: str
    nl_inflected: str
    it: tuple[str, str, str, str]  # masculine and feminine singular, masculine and feminine plural
    classes: frozenset[str]
    comparative: tuple[str, str, str] = ("", "", "")  # en, de, nl


@dataclass(frozen=True)
class Place:
    """Prepositional phrases of location (`at`) and direction (`to`)."""

    at: dict[str, str]
    to: dict[str, str]


@dataclass(frozen=True)
class Adverb:
    """A temporal adverb. `position` in English: "mid" (before the verb), "end" (end or fronted) or
    "free" (mid or fronted)."""

    text: dict[str, str]
    moods: frozenset[str]  # present, past, modal
    position: str


def rows(table: str) -> list[list[str]]:
    """Split a table into rows of stripped cells."""
    return [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines() if line]


def _noun(cells: list[str]) -> Noun:
    english, german, dutch, italian, classes = cells
    article, de_singular, de_plural, *oblique = german.split()
    nl_article, nl_singular, nl_plural = dutch.split()
    gender, *forms = italian.split()
    it = tuple(form.replace("_", " ") for form in forms)
    return Noun(
        en=tuple(english.split()),
        de=(de_singular, de_plural),
        de_gender={"der": "m", "die": "f", "das": "n"}[article],
        de_oblique=oblique[0] if oblique else de_singular,
        nl=(nl_singular, nl_plural),
        nl_gender=nl_article,
        it=it,
        it_gender=gender,
        classes=frozenset(classes.split()),
    )


def _italian_adjective(text: str) -> tuple[str, ...]:
    if "," in text:
        return tuple(text.split(","))
    if text.endswith("o"):
        return tuple(text[:-1] + ending for ending in "oaie")
    return (text, text, text[:-1] + "i", text[:-1] + "i")


def _adjective(cells: list[str]) -> Adjective:
    english, german, dutch, italian, classes, *comparative = cells
    de, *stem = german.split()
    nl, nl_inflected = dutch.split()
    compared = tuple(comparative[0].split()) if comparative and comparative[0] else ("", "", "")
    return Adjective(
        en=english,
        de=de,
        de_stem=stem[0] if stem else de,
        nl=nl,
        nl_inflected=nl_inflected,
        it=_italian_adjective(italian),
        classes=frozenset(classes.split()),
        comparative=compared,
    )


def _place(cells: list[str]) -> Place:
    pairs = [cell.split(", ") for cell in cells]
    languages = ("en", "de", "nl", "it")
    at, to = ({lang: pair[i] for lang, pair in zip(languages, pairs, strict=True)} for i in (0, 1))
    return Place(at=at, to=to)


def _adverb(cells: list[str]) -> Adverb:
    *texts, moods, position = cells
    text = dict(zip(("en", "de", "nl", "it"), texts, strict=True))
    return Adverb(text=text, moods=frozenset(moods.split()), position=position)


NOUN_LIST = [_noun(cells) for cells in rows(NOUNS)]
ADJECTIVE_LIST = [_adjective(cells) for cells in rows(ADJECTIVES)]
PLACE_LIST = [_place(cells) for cells in rows(PLACES)]
ADVERB_LIST = [_adverb(cells) for cells in rows(ADVERBS)]
