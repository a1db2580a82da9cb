"""The generated corpus: its language, its faces, its files."""

from __future__ import annotations

import csv
import ctypes
import hashlib
import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from manifests.common import CorpusError
from manifests.generated import espeak
from manifests.generated.__main__ import main
from manifests.generated.clauses import Clause
from manifests.generated.clip import Made
from manifests.generated.corpus import Item, Settings, check_plan, manifests, plan
from manifests.generated.drawing import draw_clause
from manifests.generated.grammar import frequent_words, phrases, sentences
from manifests.generated.lexicon import ADJECTIVE_LIST, ADVERB_LIST, NOUN_LIST, PLACE_LIST
from manifests.generated.mouth import mouth_path
from manifests.generated.parallel_text import parallel_text
from manifests.generated.phrases import LANGUAGES, SHE, WE, I, NounPhrase, join
from manifests.generated.speech import ACCENTS
from manifests.generated.verbs import VERB_LIST

pytest.importorskip("espeakng_loader")

REPOSITORY = Path(__file__).parents[2]
COUNTS = {
    "pretrain": 6,
    "pretrain-valid": 1,
    "translated": 4,
    "translated-valid": 1,
    "translated-test": 2,
    "transcribed": 2,
    "transcribed-valid": 1,
    "test": 2,
}
NAMES = [name.replace("-", "_") for name in COUNTS]  # of the fields of Settings


def arguments(out: Path, *more: str, **counts: int) -> list[str]:
    flags = [f"--{name}={n}" for name, n in (COUNTS | counts).items()]
    return [str(out), "--speakers=8", "--seed=3", *flags, *more]


def digests(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Written by two workers of another process."""
    out = tmp_path_factory.mktemp("corpus")
    command = [sys.executable, "-m", "manifests.generated", *arguments(out), "--jobs=2"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    return out


# Language


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


def test_hand_written_main_clauses():
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


def test_hand_written_subordinate_clauses():
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


def test_dutch_adjectives():
    assert phrase("a", "house", "big").text("nl") == "een groot huis"
    assert phrase("the", "house", "big").text("nl") == "het grote huis"
    assert phrase("a", "car", "big").text("nl") == "een grote auto"
    assert phrase("our", "horse", "old").text("nl") == "ons oude paard"


def test_german_subordinate_clauses_end_in_their_finite_verb():
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


def test_the_finite_verb_comes_second_behind_a_fronted_adverb():
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


def test_many_words_and_distinct_sentences():
    drawn = sentences(1, 5000)
    assert drawn[:100] == sentences(1, 100)
    assert len({s["en"] for s in drawn}) == len(drawn)
    assert len({word for s in drawn for word in s["en"].split()}) >= 300
    for sentence in drawn:
        assert set(sentence) == set(LANGUAGES)
        assert 4 <= len(sentence["en"].split()) <= 14
        for text in sentence.values():
            assert text == text.lower() == " ".join(text.split())
            assert all(c.isalpha() or c in " '" for c in text), text


def test_no_two_words_sound_alike():
    import espeakng_loader

    paths = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    library, _ = espeak.initialise(*paths)
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    words = {word for s in sentences(2, 8000) for word in s["en"].split()}
    for accent in ACCENTS:
        assert library.espeak_SetVoiceByName(accent.encode()) == 0
        sounds: dict[str, str] = {}
        for word in sorted(words):
            text = ctypes.c_char_p(word.encode())
            sound = library.espeak_TextToPhonemes(ctypes.byref(text), 1, 0).decode()
            sound = sound.replace("'", "").replace(",", "")
            assert sounds.setdefault(sound, word) == word, accent


def test_exclusion():
    first = sentences(1, 20)
    again = sentences(1, 20, exclude={s["en"] for s in first})
    assert not {s["en"] for s in first} & {s["en"] for s in again}


# Mouth


def test_lips_close_for_p_and_open_for_a():
    phonemes = ((0.2, "p"), (0.4, "'A:"), (0.7, "m"), (0.9, "u:"), (1.2, "_:"))
    mouth = mouth_path(phonemes, 35, 25)

    def at(path: np.ndarray, seconds: float) -> float:
        return path[int(seconds * 25)]

    assert at(mouth.opening, 0.3) < 0.1
    assert at(mouth.opening, 0.8) < 0.1
    assert at(mouth.opening, 0.55) > 0.8
    assert at(mouth.rounding, 1.05) > 0.7 > at(mouth.rounding, 0.55)


def mouth_and_sound(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per video frame: change around the mouth and in the upper corners; loudness."""
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="gray").astype(float) for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    images, size = np.stack(frames), frames[0].shape[0]
    change = np.abs(images - images[0])
    mouth = change[:, int(0.6 * size) : int(0.85 * size), int(0.3 * size) : int(0.7 * size)]
    corner = change[:, : size // 4, : size // 8]
    loud = np.sqrt((sound[: 640 * len(frames)].reshape(len(frames), 640) ** 2).mean(1))
    return mouth.mean((1, 2)), corner.mean((1, 2)), loud


def test_the_mouth_and_only_the_mouth_follows_the_sound(corpus):
    clips = [mouth_and_sound(path) for path in sorted(corpus.rglob("*.mp4"))]

    def correlation(picture: np.ndarray, sound: np.ndarray) -> float:
        n = min(len(picture), len(sound))
        if picture[:n].std() == 0:
            return 0.0
        return float(np.corrcoef(picture[:n], sound[:n])[0, 1])

    # The borders, where every clip is silent, are left out: they would tie any clip to any other.
    inner = [(m[12:-12], c[12:-12], s[12:-12]) for m, c, s in clips]
    own = np.mean([correlation(m, s) for m, _, s in inner])
    corner = np.mean([correlation(c, s) for _, c, s in inner])
    others = np.mean(
        [
            correlation(m, s)
            for i, (m, _, _) in enumerate(inner)
            for j, (_, _, s) in enumerate(inner)
            if i != j
        ]
    )
    assert own > 0.3
    assert own > others + 0.25
    assert own > corner + 0.25


def test_phrases_are_short_and_other_than_the_sentences():
    made = phrases(1, 300, exclude={"the key"})
    assert len({p["en"] for p in made}) == 300
    assert all(1 < len(p["en"].split()) <= 4 for p in made)
    assert "the key" not in {p["en"] for p in made}
    assert {"de", "it", "nl"} < made[0].keys()


# Files


def test_a_language_of_few_words():
    words = frequent_words(150)
    assert len(words) == 150
    assert words < frequent_words(200)
    full, short = sentences(1, 200, max_words=8, words=words), phrases(1, 200, words=words)
    used = {word for sentence in full + short for word in sentence["en"].split()}
    assert used <= words
    assert len(used) > 120


def test_more_sentences_than_there_are_end_in_a_sentence():
    with pytest.raises(CorpusError, match="no 100 different sentences"):
        phrases(1, 100, words={"the", "a", "cook", "king"})


def test_plain_speech_and_phrases(tmp_path):
    out = tmp_path / "out"
    options = ["--plain-speech", "--max-words=6", "--phrases=3", "--jobs=1"]
    assert main(arguments(out, *options)) == 0
    rows = table(out / "st_en-nl/train.tsv")
    assert len(rows) == 4 + 3
    assert all(len(row["src_text"].split()) <= 4 for row in rows[4:])
    for row in [*rows, *table(out / "asr/test.tsv")]:
        sound = soundfile.info((out / "asr" / row["audio"]).resolve())
        assert (sound.format, sound.samplerate, sound.channels) == ("FLAC", 16_000, 1)
        assert int(row["n_frames"]) == 1 + (sound.frames - 400) // 160
        assert (row["video"], row["video_frames"]) == ("", "0")
        assert len(row["src_text"].split()) <= 6
    assert all(row["video"] for row in table(out / "pretrain/train.tsv"))
    before = digests(out)
    assert main(arguments(out, *options)) == 0
    assert digests(out) == before


def test_rows_and_frames(corpus):
    for name, count in (("st_en-de/train", 4), ("st_en-it/test", 2), ("asr/valid", 1)):
        assert len(table(corpus / f"{name}.tsv")) == count
    for path in corpus.glob("*/*.tsv"):
        for row in table(path):
            clip = (path.parent / row["video"]).resolve()
            assert row["audio"] == row["video"]
            assert clip.is_relative_to(corpus.resolve())
            with av.open(str(clip)) as container:
                samples = sum(frame.samples for frame in container.decode(audio=0))
                assert container.streams.audio[0].rate == 16_000
                assert container.streams.audio[0].channels == 1
            with av.open(str(clip)) as container:
                frames = list(container.decode(video=0))
            assert int(row["n_frames"]) == 1 + (samples - 400) // 160
            assert int(row["video_frames"]) == len(frames)
            assert abs(samples / 16_000 - len(frames) / 25) < 0.07
            assert (frames[0].width, frames[0].height) == (64, 64)


def test_texts_of_the_views(corpus):
    assert {row["tgt_text"] for row in table(corpus / "pretrain/train.tsv")} == {""}
    asr = table(corpus / "asr/test.tsv")
    assert all(row["tgt_text"] == row["src_text"] and row["tgt_lang"] == "en" for row in asr)
    de, nl = (table(corpus / f"st_en-{lang}/train.tsv") for lang in ("de", "nl"))
    assert [row["video"] for row in de] == [row["video"] for row in nl]
    assert all(a["tgt_text"] != b["tgt_text"] for a, b in zip(de, nl, strict=True))


def test_splits_are_disjoint(tmp_path):
    items = plan(tmp_path, Settings(speakers=20))
    assert len({item.sentence["en"] for item in items}) == len(items)
    tested = {i.clip.speaker.voice for i in items if i.split == "test"}
    assert not tested & {i.clip.speaker.voice for i in items if i.split != "test"}
    assert len({item.clip.speaker for item in items}) == 20


def test_the_same_bytes_from_one_worker_and_resumed(corpus, tmp_path):
    assert main([*arguments(tmp_path), "--jobs=1"]) == 0
    assert digests(tmp_path) == digests(corpus)
    clips = sorted(tmp_path.rglob("*.mp4"))
    clips[0].unlink()
    clips[3].write_bytes(clips[3].read_bytes()[:2000])
    kept = clips[5].stat().st_mtime_ns
    assert main([*arguments(tmp_path), "--jobs=2"]) == 0
    assert digests(tmp_path) == digests(corpus)
    assert clips[5].stat().st_mtime_ns == kept


def test_other_settings_are_refused(corpus, capsys):
    before = digests(corpus)
    assert main(arguments(corpus, "--size=32")) == 1
    assert "size 64 there, 32 here" in capsys.readouterr().err
    assert digests(corpus) == before


def test_impossible_settings_are_refused(tmp_path, capsys):
    assert main([str(tmp_path), "--size=33"]) == 1
    assert main([str(tmp_path), "--speakers=1"]) == 1
    assert main([str(tmp_path), "--speakers=1000"]) == 1
    assert main([str(tmp_path), "--text=nowhere.tsv"]) == 1
    assert main([str(tmp_path), "--max-words=4"]) == 1
    assert main([str(tmp_path), f"--text={__file__}", "--phrases=3"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 6
    assert not list(tmp_path.iterdir())


def test_a_missing_espeak_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([str(tmp_path / "out")]) == 1
    assert "pip install espeakng-loader" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_killed_run_is_resumed(corpus, tmp_path):
    command = [sys.executable, "-m", "manifests.generated", *arguments(tmp_path), "--jobs=1"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    while not list(tmp_path.rglob("*.mp4")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not list(tmp_path.rglob("*.tsv"))
    assert main([*arguments(tmp_path), "--jobs=2"]) == 0
    assert digests(tmp_path) == digests(corpus)


def test_parallel_text(tmp_path):
    text = tmp_path / "pairs.tsv"
    lines = ["de\ten", *(f"das ist satz {i}.\tThis is line number {i}." for i in range(5))]
    text.write_text("\n".join(lines) + "\n")
    counts = dict.fromkeys(COUNTS, 0) | {"translated": 2, "translated-test": 1}
    flags = [f"--text={text}", "--jobs=1"]
    assert main(arguments(tmp_path / "out", *flags, **counts)) == 0
    row = table(tmp_path / "out/st_en-de/train.tsv")[0]
    assert row["tgt_text"].removeprefix("das ist satz ") == row["src_text"].split()[-1]
    assert not (tmp_path / "out/st_en-it").exists()
    with pytest.raises(CorpusError, match="5 distinct English lines"):
        plan(tmp_path, Settings(text=text))


def test_any_languages_and_lines_of_no_use(tmp_path):
    text = tmp_path / "pairs.tsv"
    lines = ["en\tfr\tpt-BR", "Bread &amp; butter.\tpain\tpão", "no\t\tnão", "...\ta\tb"]
    lines += ["Bread & butter.\tpain\tpão", "Short", "Good day.\tBonjour.\tBom\u00a0dia."]
    text.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    found, unused = parallel_text(text)
    assert found == [
        {"en": "Bread & butter.", "fr": "pain", "pt-BR": "pão"},
        {"en": "Good day.", "fr": "Bonjour.", "pt-BR": "Bom dia."},
    ]
    assert unused == 4
    settings = Settings(text=text, **dict.fromkeys(NAMES, 0) | {"translated": 2})
    items = plan(tmp_path, settings)
    check_plan(items, settings)
    tables = manifests(items, [Made(16_000, 25, False)] * 2)
    assert sorted(tables) == ["st_en-fr/train.tsv", "st_en-pt-BR/train.tsv"]
    assert [row["n_frames"] for row in tables["st_en-fr/train.tsv"]] == [98, 98]


def test_parallel_texts_that_cannot_serve_are_refused_before_anything_is_spoken(tmp_path, capsys):
    text = tmp_path / "pairs.tsv"
    counts = dict.fromkeys(COUNTS, 0) | {"translated": 1}
    for content, complaint in [
        ("en\nHello.\n", "has no language but English to translate into"),
        ("en\tGerman words\na\tb\n", "not German words"),
        ("de\nHallo\n", "no column named en"),
    ]:
        text.write_text(content)
        assert main(arguments(tmp_path / "out", f"--text={text}", "--jobs=1", **counts)) == 1
        assert complaint in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_broken_splits_are_noticed(tmp_path):
    settings = Settings(speakers=8, **dict.fromkeys(NAMES, 2))
    items = plan(tmp_path, settings)

    def complaint(changed: list[Item]) -> str:
        with pytest.raises(CorpusError) as caught:
            check_plan(changed, settings)
        return str(caught.value)

    check_plan(items, settings)
    assert "not the 2 asked for" in complaint(items[:-1])
    repeated = replace(items[-1], sentence=items[0].sentence)
    assert "two clips" in complaint([*items[:-1], repeated])
    clip = replace(items[-1].clip, speaker=items[0].clip.speaker)
    assert "speaker" in complaint([*items[:-1], replace(items[-1], clip=clip)])


def test_settings_are_stored(corpus):
    stored = json.loads((corpus / "corpus.json").read_text())
    assert stored["seed"] == 3
    assert stored["speakers"] == 8
