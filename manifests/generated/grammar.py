"""English sentences with exact Italian, German and Dutch translations.

Text is lower case and has no punctuation but apostrophes (Italian "l'albero", Dutch "auto's").
The four languages are written from one proposition, so word order truly differs between them:
German verbs close subordinate clauses, finite verbs come second behind a fronted adverb in German
and Dutch, and Italian adjectives follow their nouns.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from .clauses import Clause
from .lexicon import ADJECTIVE_LIST, ADVERB_LIST, NOUN_LIST, PLACE_LIST, Noun
from .phrases import (
    DEFINITE,
    HE,
    LANGUAGES,
    QUANTIFIERS,
    SHE,
    THERE,
    THEY,
    WE,
    WEATHER,
    I,
    NounPhrase,
    Pronoun,
    join,
)
from .verbs import VERB_LIST, Verb

Sentence = dict[str, str]
MIN_WORDS, MAX_WORDS = 4, 14

_PRONOUNS = (I, WE, HE, SHE, THEY)
_PEOPLE = [noun for noun in NOUN_LIST if "p" in noun.classes]
_ANIMALS = [noun for noun in NOUN_LIST if "a" in noun.classes]
_FRAMES = {
    frame: [verb for verb in VERB_LIST if verb.frame == frame]
    for frame in ("object", "dative", "recipient", "motion", "activity", "weather")
}
_FRAME_WEIGHTS = {
    "object": 10,
    "dative": 2,
    "recipient": 4,
    "motion": 3,
    "activity": 4,
    "copula": 4,
    "there": 1,
}
_ANIMAL_VERBS = ("eat", "sleep", "run", "follow", "wait", "play", "dream", "come")
_SOCIAL_VERBS = ("play", "dance", "sing", "talk", "work", "wait", "study", "laugh")

# conjunction: de, nl, it, whether both clauses must be in the present
_CONJUNCTIONS = {
    "because": ("weil", "omdat", "perché", False),
    "although": ("obwohl", "hoewel", "anche se", False),
    "if": ("wenn", "als", "se", True),
    "when": ("wenn", "wanneer", "quando", True),
    "while": ("während", "terwijl", "mentre", True),
}
_COORDINATORS = {"and": ("und", "en", "e"), "but": ("aber", "maar", "ma")}
# verbs with a "that" clause: forms in the order of Verb
_REPORTS = {
    "know": (
        ("know", "knows"),
        ("weiß", "weiß", "wissen"),
        ("weet", "weet", "weten"),
        "so sa sappiamo sanno",
    ),
    "say": (
        ("say", "says"),
        ("sage", "sagt", "sagen"),
        ("zeg", "zegt", "zeggen"),
        "dico dice diciamo dicono",
    ),
    "hear": (
        ("hear", "hears"),
        ("höre", "hört", "hören"),
        ("hoor", "hoort", "horen"),
        "sento sente sentiamo sentono",
    ),
    "see": (
        ("see", "sees"),
        ("sehe", "sieht", "sehen"),
        ("zie", "ziet", "zien"),
        "vedo vede vediamo vedono",
    ),
    "write": (
        ("write", "writes"),
        ("schreibe", "schreibt", "schreiben"),
        ("schrijf", "schrijft", "schrijven"),
        "scrivo scrive scriviamo scrivono",
    ),
}
_IMPERSONAL = (
    ("it is true that", "es ist wahr dass", "het is waar dat", "è vero che"),
    ("it is clear that", "es ist klar dass", "het is duidelijk dat", "è chiaro che"),
    ("everyone knows that", "jeder weiß dass", "iedereen weet dat", "tutti sanno che"),
    ("nobody knows that", "niemand weiß dass", "niemand weet dat", "nessuno sa che"),
)


def sentences(seed: int | str, n: int, exclude: Collection[str] = ()) -> list[Sentence]:
    """`n` distinct sentences, each a dict of en, de, nl and it; the same for the same seed.

    No English sentence is one of `exclude`; each has 4 to 14 words.
    """
    rng = random.Random(f"sentences {seed}")
    seen, out = set(exclude), []
    while len(out) < n:
        sentence = _sentence(rng)
        if sentence["en"] in seen or not MIN_WORDS <= len(sentence["en"].split()) <= MAX_WORDS:
            continue
        seen.add(sentence["en"])
        out.append(sentence)
    return out


def _sentence(rng: random.Random) -> Sentence:
    shapes = (_single, _question, _joined, _fronted, _reported, _relative, _coordinated)
    shape = rng.choices(shapes, weights=(34, 6, 20, 12, 14, 8, 6))[0]
    return shape(rng)


def _single(rng: random.Random) -> Sentence:
    clause = draw_clause(rng)
    return {lang: clause.main(lang) for lang in LANGUAGES}


def _question(rng: random.Random) -> Sentence:
    clause = draw_clause(rng, front=False, first_person=False)
    return {lang: clause.question(lang) for lang in LANGUAGES}


def _joined(rng: random.Random) -> Sentence:
    """Main clause, conjunction, subordinate clause."""
    main, word, sub = _conjoined(rng, front=True)
    return {lang: join(main.main(lang), word[lang], sub.subordinate(lang)) for lang in LANGUAGES}


def _fronted(rng: random.Random) -> Sentence:
    """Conjunction, subordinate clause, main clause: the latter inverted in German and Dutch."""
    main, word, sub = _conjoined(rng, front=False)
    if word["en"] == "because":
        word["it"] = "siccome"  # "perché" does not open a sentence, save in answers
    return {
        lang: join(word[lang], sub.subordinate(lang), main.inverted(lang)) for lang in LANGUAGES
    }


def _conjoined(rng: random.Random, front: bool) -> tuple[Clause, Sentence, Clause]:
    english = rng.choice(list(_CONJUNCTIONS))
    *others, present = _CONJUNCTIONS[english]
    moods = ("present",) if present else None
    main = draw_clause(rng, short=True, moods=moods, front=front)
    if rng.random() < 0.12:
        mood = "present" if present else rng.choice(("present", "past"))
        sub = Clause(subject=WEATHER, mood=mood, verb=rng.choice(_FRAMES["weather"]))
    else:
        sub = draw_clause(rng, short=True, moods=moods, front=False)
    return main, dict(zip(LANGUAGES, (english, *others), strict=True)), sub


def _reported(rng: random.Random) -> Sentence:
    sub = draw_clause(rng, front=False)
    if rng.random() < 0.3:
        heads = dict(zip(LANGUAGES, rng.choice(_IMPERSONAL), strict=True))
        return {lang: join(heads[lang], sub.subordinate(lang)) for lang in LANGUAGES}
    english, german, dutch, italian = _REPORTS[rng.choice(list(_REPORTS))]
    subject = _draw_subject(rng, short=True)
    slot = {"1s": 0, "3s": 1, "1p": 2, "3p": 2}[subject.person]
    it_slot = {"1s": 0, "3s": 1, "1p": 2, "3p": 3}[subject.person]
    forms = (english[subject.person == "3s"], german[slot], dutch[slot], italian.split()[it_slot])
    that = ("that", "dass", "dat", "che")
    return {
        lang: join(subject.text(lang), forms[i], that[i], sub.subordinate(lang))
        for i, lang in enumerate(LANGUAGES)
    }


def _relative(rng: random.Random) -> Sentence:
    """A subject with a relative clause."""
    plural = rng.random() < 0.25
    noun = rng.choice(_PEOPLE)
    bare = NounPhrase(noun, "the", plural)
    inner = draw_clause(rng, short=True, front=False, subject=bare)
    subject = NounPhrase(noun, "the", plural, relative=inner)
    outer = draw_clause(rng, short=True, front=False, subject=subject)
    return {lang: outer.main(lang) for lang in LANGUAGES}


def _coordinated(rng: random.Random) -> Sentence:
    english = rng.choice(list(_COORDINATORS))
    words = dict(zip(LANGUAGES, (english, *_COORDINATORS[english]), strict=True))
    first, second = draw_clause(rng, short=True), draw_clause(rng, short=True, front=False)
    return {lang: join(first.main(lang), words[lang], second.main(lang)) for lang in LANGUAGES}


def draw_clause(
    rng: random.Random,
    short: bool = False,
    moods: tuple[str, ...] | None = None,
    front: bool = True,
    first_person: bool = True,
    subject: NounPhrase | Pronoun | None = None,
) -> Clause:
    """A random clause; `front` allows an adverb in front, `short` keeps modifiers few."""
    frames = list(_FRAME_WEIGHTS)[: -1 if subject else None]
    frame = rng.choices(frames, weights=[_FRAME_WEIGHTS[name] for name in frames])[0]
    if frame == "there":
        return _there(rng, front)
    if frame == "copula":
        return _copula(rng, subject, moods, short)
    verb = rng.choice(_FRAMES[frame])
    mood = _draw_mood(rng, verb, moods)
    if subject is None:
        animal = verb.en[0] in _ANIMAL_VERBS and rng.random() < 0.3
        subject = _draw_subject(rng, short, first_person, _ANIMALS if animal else _PEOPLE)
    phrases = _arguments(rng, verb, short)
    negated = rng.random() < 0.12 and mood not in ("must",) and _negatable(phrases)
    adverb, in_front = None, False
    if rng.random() < (0.25 if short else 0.45):
        adverb, in_front = _draw_adverb(rng, mood, negated, front)
    place = None
    if frame == "motion":
        place = rng.choice(PLACE_LIST)
    elif not negated and rng.random() < (0.15 if short else 0.35) and frame != "dative":
        place = rng.choice(PLACE_LIST)
    return Clause(subject, mood, verb, negated, adverb, in_front, place=place, **phrases)


def _arguments(rng: random.Random, verb: Verb, short: bool) -> dict[str, NounPhrase]:
    phrases = {}
    if verb.objects:
        nouns = [noun for noun in NOUN_LIST if noun.classes & verb.objects]
        phrases["object"] = _draw_phrase(rng, nouns, short)
    if verb.frame == "recipient":
        phrases["recipient"] = _draw_phrase(rng, _PEOPLE, short=True)
    if verb.frame == "activity" and verb.en[0] in _SOCIAL_VERBS and rng.random() < 0.4:
        phrases["companion"] = _draw_phrase(rng, _PEOPLE, short)
    return phrases


def _negatable(phrases: dict[str, NounPhrase]) -> bool:
    """German and Dutch negate an indefinite phrase with "kein" and "geen", not with "nicht"."""
    return all(phrase.definite for phrase in phrases.values())


def _draw_mood(rng: random.Random, verb: Verb, moods: tuple[str, ...] | None) -> str:
    mood = rng.choice(moods or ("present", "present", "past", "past", "can", "must", "want"))
    return "present" if mood == "past" and verb.en[2] == "-" else mood


def _draw_adverb(rng: random.Random, mood: str, negated: bool, front: bool) -> tuple:
    """An adverb that suits the mood, and whether it stands in front; (None, False) if none does."""
    kind = mood if mood in ("present", "past") else "modal"
    adverb = rng.choice([a for a in ADVERB_LIST if kind in a.moods])
    movable = front and adverb.position != "mid"
    if negated:  # behind the adverb, "nicht" would negate the adverb alone
        return (adverb, True) if movable else (None, False)
    return adverb, movable and rng.random() < 0.6


def _draw_subject(
    rng: random.Random,
    short: bool = False,
    first_person: bool = True,
    nouns: list[Noun] = _PEOPLE,
) -> NounPhrase | Pronoun:
    if nouns is _PEOPLE and rng.random() < 0.35:
        return rng.choice(_PRONOUNS if first_person else _PRONOUNS[2:])
    return _draw_phrase(rng, nouns, short)


def _draw_phrase(rng: random.Random, nouns: list[Noun], short: bool) -> NounPhrase:
    noun = rng.choice(nouns)
    plural = noun.countable and rng.random() < 0.25
    if plural:
        det = rng.choice(("the", "the", "the", *DEFINITE, *QUANTIFIERS))
    elif noun.countable:
        det = rng.choice((*["the"] * 5, *["a"] * 5, "every", *DEFINITE))
    else:
        det = rng.choice(("the", "the", *DEFINITE))
    adjective = None
    if det != "every" and rng.random() < (0.25 if short else 0.4):
        adjective = rng.choice([a for a in ADJECTIVE_LIST if a.classes & _quality(noun)])
    return NounPhrase(noun, det, plural, adjective)


def _quality(noun: Noun) -> frozenset[str]:
    """The classes of adjectives that suit a noun."""
    return noun.classes & {"p", "a", "f", "d", "b"} or frozenset("t")


def _copula(
    rng: random.Random,
    subject: NounPhrase | Pronoun | None,
    moods: tuple[str, ...] | None,
    short: bool,
) -> Clause:
    mood = rng.choice(moods or ("present", "present", "past"))
    if subject is None:
        noun = rng.choice(NOUN_LIST)
        plural = noun.countable and rng.random() < 0.3
        subject = NounPhrase(noun, rng.choice(DEFINITE), plural)
    suited = [a for a in ADJECTIVE_LIST if a.classes & _quality(subject.noun)]
    degree = rng.choice(("", "very", "more"))
    if degree == "more":
        suited = [a for a in suited if a.comparative[0]]
        peers = [n for n in NOUN_LIST if _quality(n) == _quality(subject.noun)]
        peers = [n for n in peers if n != subject.noun]
        standard = NounPhrase(rng.choice(peers), rng.choice(DEFINITE), False)
        return Clause(subject, mood, predicate=rng.choice(suited), degree="more", standard=standard)
    if degree == "very":
        suited = [a for a in suited if "c" not in a.classes]
    negated = degree == "" and rng.random() < 0.2
    return Clause(subject, mood, negated=negated, predicate=rng.choice(suited), degree=degree)


def _there(rng: random.Random, front: bool) -> Clause:
    nouns = [noun for noun in NOUN_LIST if noun.classes & {"p", "a", "v", "t"}]
    noun = rng.choice(nouns)
    plural = rng.random() < 0.5
    det = rng.choice(QUANTIFIERS) if plural else "a"
    adjective = None
    if rng.random() < 0.5:
        adjective = rng.choice([a for a in ADJECTIVE_LIST if a.classes & _quality(noun)])
    adverb, in_front = (None, False)
    if front and rng.random() < 0.3:
        adverb, in_front = next(a for a in ADVERB_LIST if a.text["en"] == "today"), True
    thing = NounPhrase(noun, det, plural, adjective)
    return Clause(
        THERE,
        "present",
        adverb=adverb,
        adverb_in_front=in_front,
        object=thing,
        place=rng.choice(PLACE_LIST),
    )
