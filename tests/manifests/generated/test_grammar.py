"""The generated sentences: grammatical in all four languages, distinct and reproducible."""

import ctypes
import random

import pytest

from manifests.errors import InputError
from manifests.generated import espeak
from manifests.generated.clauses import Clause
from manifests.generated.drawing import draw_clause
from manifests.generated.grammar import frequent_words, phrases, sentences
from manifests.generated.lexicon import ADJECTIVE_LIST, ADVERB_LIST, NOUN_LIST, PLACE_LIST
from manifests.generated.phrases import LANGUAGES, SHE, WE, I, NounPhrase, join
from manifests.generated.speech import ACCENTS
from manifests.generated.verbs import VERB_LIST


def phrase(det: str, english: str, adjective: str = "", relative: Clause | None = None):
    noun = next(noun for noun in NOUN_LIST if english in noun.en)
    quality = next((a for a in ADJECTIVE_LIST if a.en == adjective), None)
    return NounPhrase(noun, det, english == noun.en[1], quality, relative)


def verb(english: str, particle: str = ""):
    return next(v for v in VERB_LIST if v.en[0] == english and v.en_particle == particle)


def adverb(english: str):
    return next(a for a in ADVERB_LIST if a.text["en"] == english)


def place(english: str):
    return next(p for p in PLACE_LIST if english in p.at["en"])


def test_main_clauses_match_hand_written_ones():
    clause = Clause(
        phrase("the", "teacher", "old"),
        "past",
        verb("read"),
        object=phrase("a", "book", "red"),
        adverb=adverb("yesterday"),
        adverb_in_front=True,
    )
    assert clause.main("de") == "gestern hat der alte lehrer ein rotes buch gelesen"
    assert clause.main("nl") == "gisteren heeft de oude leraar een rood boek gelezen"
    assert clause.main("it") == "ieri l'insegnante vecchio ha letto un libro rosso"

    clause = Clause(
        SHE,
        "want",
        verb("give"),
        object=phrase("this", "umbrella"),
        recipient=phrase("a", "student", "poor"),
        place=place("station"),
    )
    assert clause.main("en") == "she wants to give a poor student this umbrella at the station"
    assert clause.main("de") == "sie will einem armen studenten diesen regenschirm am bahnhof geben"
    assert clause.main("nl") == "zij wil een arme student deze paraplu op het station geven"
    assert clause.main("it") == "lei vuole dare quest'ombrello a uno studente povero alla stazione"

    clause = Clause(phrase("my", "sister"), "past", verb("go"), place=place("village"))
    assert clause.main("en") == "my sister went to the village"
    assert clause.main("de") == "meine schwester ist ins dorf gegangen"
    assert clause.main("nl") == "mijn zus is naar het dorp gegaan"
    assert clause.main("it") == "mia sorella è andata al villaggio"

    clause = Clause(WE, "present", verb("call"), negated=True, object=phrase("our", "uncles"))
    assert clause.main("en") == "we do not call our uncles"
    assert clause.main("de") == "wir rufen unsere onkel nicht an"
    assert clause.main("nl") == "wij bellen onze ooms niet op"
    assert clause.main("it") == "non chiamiamo i nostri zii"


def test_subordinate_clauses_match_hand_written_ones():
    clause = Clause(
        phrase("the", "child"), "past", verb("invite"), object=phrase("many", "friends", "happy")
    )
    assert clause.subordinate("de") == "das kind viele glückliche freunde eingeladen hat"
    assert clause.subordinate("nl") == "het kind veel gelukkige vrienden heeft uitgenodigd"
    assert clause.subordinate("it") == "il bambino ha invitato molti amici felici"

    clause = Clause(I, "must", verb("throw", "away"), object=phrase("the", "shoes", "dirty"))
    assert clause.subordinate("en") == "i must throw away the dirty shoes"
    assert clause.subordinate("de") == "ich die schmutzigen schuhe wegwerfen muss"
    assert clause.subordinate("nl") == "ik de vieze schoenen moet weggooien"
    assert clause.subordinate("it") == "devo buttare le scarpe sporche"

    inner = Clause(phrase("the", "girl"), "present", verb("help"), object=phrase("the", "neighbor"))
    girl = phrase("the", "girl", relative=inner)
    more = next(a for a in ADJECTIVE_LIST if a.en == "clever")
    outer = Clause(
        girl, "present", predicate=more, degree="more", standard=phrase("the", "students")
    )
    assert outer.main("en") == "the girl who helps the neighbor is cleverer than the students"
    assert outer.main("de") == "das mädchen das dem nachbarn hilft ist klüger als die studenten"
    assert outer.main("nl") == "het meisje dat de buurman helpt is slimmer dan de studenten"
    assert outer.main("it") == "la ragazza che aiuta il vicino è più intelligente degli studenti"


@pytest.mark.parametrize(
    ("det", "noun", "adjective", "italian"),
    [
        ("the", "uncle", "", "lo zio"),
        ("the", "mirrors", "", "gli specchi"),
        ("the", "duck", "", "l'anatra"),
        ("the", "men", "strong", "gli uomini forti"),
        ("a", "duck", "", "un'anatra"),
        ("a", "student", "", "uno studente"),
        ("a", "friend", "", "un amico"),
        ("my", "brother", "old", "il mio fratello vecchio"),
        ("his", "keys", "", "le sue chiavi"),
        ("some", "photos", "blue", "alcune foto blu"),
        ("this", "tree", "", "quest'albero"),
    ],
)
def test_italian_agreement(det, noun, adjective, italian):
    assert phrase(det, noun, adjective).text("it") == italian


@pytest.mark.parametrize(
    ("det", "noun", "adjective", "case", "german"),
    [
        ("a", "dog", "small", "acc", "einen kleinen hund"),
        ("the", "friends", "rich", "dat", "den reichen freunden"),
        ("some", "houses", "expensive", "nom", "einige teure häuser"),
        ("our", "milk", "fresh", "nom", "unsere frische milch"),
        ("this", "girl", "brave", "dat", "diesem mutigen mädchen"),
        ("three", "children", "young", "dat", "drei jungen kindern"),
        ("every", "customer", "", "acc", "jeden kunden"),
        ("her", "horse", "white", "acc", "ihr weißes pferd"),
    ],
)
def test_german_declension(det, noun, adjective, case, german):
    assert phrase(det, noun, adjective).text("de", case) == german


def test_dutch_adjective_inflection():
    assert phrase("a", "house", "big").text("nl") == "een groot huis"
    assert phrase("the", "house", "big").text("nl") == "het grote huis"
    assert phrase("a", "car", "big").text("nl") == "een grote auto"
    assert phrase("our", "horse", "old").text("nl") == "ons oude paard"


def test_german_subordinate_clauses_end_with_the_finite_verb():
    finite = {form for v in VERB_LIST for form in v.de}
    finite |= {v.de_prefix + form for v in VERB_LIST for form in v.de}
    finite |= {"habe", "hat", "haben", "bin", "ist", "sind", "war", "waren", "gibt"}
    finite |= {"kann", "können", "muss", "müssen", "will", "wollen"}
    seen = 0
    for sentence in sentences(11, 2000):
        words = sentence["de"].split()
        for conjunction in ("weil", "obwohl", "dass"):
            if conjunction in words[1:] and "als" not in words:
                assert words[-1] in finite, sentence
                seen += 1
    assert seen > 200


def test_the_finite_verb_comes_second_after_a_fronted_adverb():
    rng, seen = random.Random(5), 0
    while seen < 100:
        clause = draw_clause(rng)
        if not clause.adverb_in_front:
            continue
        seen += 1
        for lang in ("de", "nl"):
            front, subject = clause.adverb.text[lang], clause.subject.text(lang)
            plain = Clause(**{**vars(clause), "adverb": None, "adverb_in_front": False}).main(lang)
            finite = plain.removeprefix(subject).split()[0]
            assert clause.main(lang).startswith(join(front, finite, subject))


def test_sentences_are_reproducible_distinct_and_varied():
    sampled = sentences(1, 5000)
    assert sampled[:100] == sentences(1, 100)
    assert len({s["en"] for s in sampled}) == len(sampled)
    assert len({word for s in sampled for word in s["en"].split()}) >= 300
    for sentence in sampled:
        assert set(sentence) == set(LANGUAGES)
        assert 4 <= len(sentence["en"].split()) <= 14
        for text in sentence.values():
            assert text == text.lower() == " ".join(text.split())
            assert all(c.isalpha() or c in " '" for c in text), text


def test_no_two_words_are_homophones():
    espeakng_loader = pytest.importorskip("espeakng_loader")
    paths = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    library, _ = espeak.initialise(*paths)
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    words = {word for s in sentences(2, 8000) for word in s["en"].split()}
    for accent in ACCENTS:
        assert library.espeak_SetVoiceByName(accent.encode()) == 0
        by_phonemes: dict[str, str] = {}
        for word in sorted(words):
            text = ctypes.c_char_p(word.encode())
            phonemes = library.espeak_TextToPhonemes(ctypes.byref(text), 1, 0).decode()
            phonemes = phonemes.replace("'", "").replace(",", "")
            assert by_phonemes.setdefault(phonemes, word) == word, accent


def test_excluded_sentences_do_not_occur():
    first = sentences(1, 20)
    again = sentences(1, 20, exclude={s["en"] for s in first})
    assert not {s["en"] for s in first} & {s["en"] for s in again}


def test_phrases_are_short_distinct_and_respect_the_exclusion():
    sampled = phrases(1, 300, exclude={"the key"})
    assert len({p["en"] for p in sampled}) == 300
    assert all(1 < len(p["en"].split()) <= 4 for p in sampled)
    assert "the key" not in {p["en"] for p in sampled}
    assert {"de", "it", "nl"} < sampled[0].keys()


def test_a_small_vocabulary_is_respected():
    words = frequent_words(150)
    assert len(words) == 150
    assert words < frequent_words(200)
    full, short = sentences(1, 200, max_words=8, words=words), phrases(1, 200, words=words)
    used = {word for sentence in full + short for word in sentence["en"].split()}
    assert used <= words
    assert len(used) > 120


def test_requesting_too_many_sentences_is_reported():
    with pytest.raises(InputError, match="fewer than 100 different sentences"):
        phrases(1, 100, words={"the", "a", "cook", "king"})
