"""Generate English sentences with exact Italian, German and Dutch translations.

Text is lower case, with apostrophes as the only punctuation (Italian "l'albero", Dutch "auto's").
The four languages are generated from one proposition, so their word orders really differ: German
subordinate clauses are verb-final, the finite verb comes second after a fronted adverb in German
and Dutch, and Italian adjectives follow their nouns.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Container

from ..errors import InputError
from .clauses import Clause
from .drawing import PEOPLE, WEATHER_VERBS, draw_clause, draw_subject
from .lexicon import NOUN_LIST
from .phrases import LANGUAGES, WEATHER, NounPhrase, join

Sentence = dict[str, str]
MIN_WORDS, MAX_WORDS = 4, 14
_MAX_MISSES = 5000  # consecutive samples without a new sentence before giving up

# conjunction: de, nl, it, whether both clauses must be in the present tense
_CONJUNCTIONS = {
    "because": ("weil", "omdat", "perché", False),
    "although": ("obwohl", "hoewel", "anche se", False),
    "if": ("wenn", "als", "se", True),
    "when": ("wenn", "wanneer", "quando", True),
    "while": ("während", "terwijl", "mentre", True),
}
_COORDINATORS = {"and": ("und", "en", "e"), "but": ("aber", "maar", "ma")}
# verbs that take a "that" clause: forms in the order of Verb
_REPORTING_VERBS = {
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


def frequent_words(count: int) -> frozenset[str]:
    """The `count` most frequent English words of the grammar, the same in every call.

    A small vocabulary can be learnt from few clips, as a small demonstration requires.
    """
    rng = random.Random("frequent words")
    samples = [_sentence(rng) for _ in range(3000)] + [_phrase(rng) for _ in range(3000)]
    words = Counter(word for sentence in samples for word in sentence["en"].split())
    return frozenset(sorted(words, key=lambda word: (-words[word], word))[:count])


def sentences(
    seed: int | str,
    n: int,
    exclude: Collection[str] = (),
    max_words: int = MAX_WORDS,
    words: Collection[str] = (),
) -> list[Sentence]:
    """Sample `n` distinct sentences as dicts of en, de, nl and it; reproducible by `seed`.

    No English sentence is in `exclude`; each has 4 to `max_words` words, all of them in `words`
    unless that is empty.
    """
    rng = random.Random(f"sentences {seed}")
    return _distinct(lambda: _sentence(rng), n, exclude, range(MIN_WORDS, max_words + 1), words)


def phrases(
    seed: int | str, n: int, exclude: Collection[str] = (), words: Collection[str] = ()
) -> list[Sentence]:
    """Sample `n` distinct noun phrases and clauses of at most four words, as :func:`sentences`.

    With few words the alignment of audio and words is hardly ambiguous, so a model learns sooner
    from phrases than from sentences alone.
    """
    rng = random.Random(f"phrases {seed}")
    return _distinct(lambda: _phrase(rng), n, exclude, range(1, MIN_WORDS + 1), words)


def _distinct(
    sample: Callable[[], Sentence],
    n: int,
    exclude: Collection[str],
    lengths: Container[int],
    words: Collection[str],
) -> list[Sentence]:
    """The first `n` samples that are new, have a length in `lengths` and use only `words`."""
    seen, out, misses = set(exclude), [], 0
    while len(out) < n:
        sentence = sample()
        used = sentence["en"].split()
        fits = len(used) in lengths and (not words or words.issuperset(used))
        if sentence["en"] in seen or not fits:
            misses += 1
            if misses > _MAX_MISSES:
                raise InputError(
                    f"The grammar has fewer than {n} different sentences with these words and "
                    "lengths; request fewer sentences or allow more words."
                )
            continue
        misses = 0
        seen.add(sentence["en"])
        out.append(sentence)
    return out


def _phrase(rng: random.Random) -> Sentence:
    return _noun_phrase(rng) if rng.random() < 0.6 else _short_clause(rng)


def _noun_phrase(rng: random.Random) -> Sentence:
    phrase = draw_subject(rng, first_person=False, nouns=NOUN_LIST)
    return {lang: phrase.text(lang) for lang in LANGUAGES}


def _short_clause(rng: random.Random) -> Sentence:
    clause = draw_clause(rng, short=True, front=False)
    return {lang: clause.main(lang) for lang in LANGUAGES}


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
    """Conjunction, subordinate clause, main clause (inverted in German and Dutch)."""
    main, word, sub = _conjoined(rng, front=False)
    if word["en"] == "because":
        word["it"] = "siccome"  # "perché" begins a sentence only in answers
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
        sub = Clause(subject=WEATHER, mood=mood, verb=rng.choice(WEATHER_VERBS))
    else:
        sub = draw_clause(rng, short=True, moods=moods, front=False)
    return main, dict(zip(LANGUAGES, (english, *others), strict=True)), sub


def _reported(rng: random.Random) -> Sentence:
    sub = draw_clause(rng, front=False)
    if rng.random() < 0.3:
        heads = dict(zip(LANGUAGES, rng.choice(_IMPERSONAL), strict=True))
        return {lang: join(heads[lang], sub.subordinate(lang)) for lang in LANGUAGES}
    english, german, dutch, italian = _REPORTING_VERBS[rng.choice(list(_REPORTING_VERBS))]
    subject = draw_subject(rng, short=True)
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
    noun = rng.choice(PEOPLE)
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
