"""Sample random clauses whose words are semantically compatible."""

from __future__ import annotations

import random

from .clauses import Clause
from .lexicon import ADJECTIVE_LIST, ADVERB_LIST, NOUN_LIST, PLACE_LIST, Adverb, Noun
from .phrases import (
    DEFINITE,
    HE,
    QUANTIFIERS,
    SHE,
    THERE,
    THEY,
    WE,
    I,
    NounPhrase,
    Pronoun,
)
from .verbs import VERB_LIST, Verb

_PRONOUNS = (I, WE, HE, SHE, THEY)
PEOPLE = [noun for noun in NOUN_LIST if "p" in noun.classes]
_ANIMALS = [noun for noun in NOUN_LIST if "a" in noun.classes]
_FRAMES = {
    frame: [verb for verb in VERB_LIST if verb.frame == frame]
    for frame in ("object", "dative", "recipient", "motion", "activity")
}
WEATHER_VERBS = [verb for verb in VERB_LIST if verb.frame == "weather"]
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


def draw_clause(
    rng: random.Random,
    short: bool = False,
    moods: tuple[str, ...] | None = None,
    front: bool = True,
    first_person: bool = True,
    subject: NounPhrase | Pronoun | None = None,
) -> Clause:
    """Sample a clause; `front` allows a fronted adverb, `short` reduces the modifiers."""
    frames = list(_FRAME_WEIGHTS)[: -1 if subject else None]
    frame = rng.choices(frames, weights=[_FRAME_WEIGHTS[name] for name in frames])[0]
    if frame == "there":
        return _there(rng, front)
    if frame == "copula":
        return _copula(rng, subject, moods)
    verb = rng.choice(_FRAMES[frame])
    mood = _draw_mood(rng, verb, moods)
    if subject is None:
        animal = verb.en[0] in _ANIMAL_VERBS and rng.random() < 0.3
        subject = draw_subject(rng, short, first_person, _ANIMALS if animal else PEOPLE)
    phrases = _arguments(rng, verb, short)
    # "must not" is a prohibition, "muss nicht" and "moet niet" are not: "must" is never negated.
    negated = rng.random() < 0.12 and mood != "must" and _negatable(phrases)
    adverb, in_front = None, False
    if rng.random() < (0.25 if short else 0.45):
        adverb, in_front = _draw_adverb(rng, mood, negated, front)
    placed = frame == "motion"
    if not placed and not negated and rng.random() < (0.15 if short else 0.35):
        placed = frame != "dative"
    place = rng.choice(PLACE_LIST) if placed else None
    return Clause(subject, mood, verb, negated, adverb, in_front, place=place, **phrases)


def _arguments(rng: random.Random, verb: Verb, short: bool) -> dict[str, NounPhrase]:
    phrases = {}
    if verb.objects:
        nouns = [noun for noun in NOUN_LIST if noun.classes & verb.objects]
        phrases["object"] = _draw_phrase(rng, nouns, short)
    if verb.frame == "recipient":
        phrases["recipient"] = _draw_phrase(rng, PEOPLE, short=True)
    if verb.frame == "activity" and verb.en[0] in _SOCIAL_VERBS and rng.random() < 0.4:
        phrases["companion"] = _draw_phrase(rng, PEOPLE, short)
    return phrases


def _negatable(phrases: dict[str, NounPhrase]) -> bool:
    """German and Dutch negate an indefinite phrase with "kein" and "geen", not with "nicht"."""
    return all(phrase.definite for phrase in phrases.values())


def _draw_mood(rng: random.Random, verb: Verb, moods: tuple[str, ...] | None) -> str:
    mood = rng.choice(moods or ("present", "present", "past", "past", "can", "must", "want"))
    return "present" if mood == "past" and verb.en[2] == "-" else mood


def _draw_adverb(
    rng: random.Random, mood: str, negated: bool, front: bool
) -> tuple[Adverb | None, bool]:
    """An adverb that fits the mood, and whether it is fronted; (None, False) if none fits."""
    kind = mood if mood in ("present", "past") else "modal"
    adverb = rng.choice([a for a in ADVERB_LIST if kind in a.moods])
    movable = front and adverb.position != "mid"
    if negated:  # after a mid-clause adverb, "nicht" would negate only the adverb
        return (adverb, True) if movable else (None, False)
    return adverb, movable and rng.random() < 0.6


def draw_subject(
    rng: random.Random,
    short: bool = False,
    first_person: bool = True,
    nouns: list[Noun] = PEOPLE,
) -> NounPhrase | Pronoun:
    if nouns is PEOPLE and rng.random() < 0.35:
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
    """The adjective classes that are compatible with a noun."""
    return noun.classes & {"p", "a", "f", "d", "b", "u"} or frozenset("t")


def _copula(
    rng: random.Random,
    subject: NounPhrase | Pronoun | None,
    moods: tuple[str, ...] | None,
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
