"""Corpora generated from parallel text instead of the grammar."""

import pytest

from manifests.errors import InputError
from manifests.generated.__main__ import main
from manifests.generated.clip import ClipResult
from manifests.generated.corpus import Settings, check_plan, manifests, plan
from manifests.generated.parallel_text import parallel_text
from tests.manifests.corpora import rows
from tests.manifests.generated.command import COUNTS, NAMES, arguments

pytest.importorskip("espeakng_loader")


def test_a_corpus_is_generated_from_parallel_text(tmp_path):
    text = tmp_path / "pairs.tsv"
    lines = ["de\ten", *(f"das ist satz {i}.\tThis is line number {i}." for i in range(5))]
    text.write_text("\n".join(lines) + "\n")
    counts = dict.fromkeys(COUNTS, 0) | {"translated": 2, "translated-test": 1}
    flags = [f"--text={text}", "--jobs=1"]
    main(arguments(tmp_path / "out", *flags, **counts))
    row = rows(tmp_path / "out/st_en-de/train.tsv")[0]
    assert row["tgt_text"].removeprefix("das ist satz ") == row["src_text"].split()[-1]
    assert not (tmp_path / "out/st_en-it").exists()
    with pytest.raises(InputError, match="5 distinct English lines"):
        plan(tmp_path, Settings(text=text))


def test_any_languages_are_accepted_and_unusable_lines_counted(tmp_path):
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
    tables = manifests(items, [ClipResult(16_000, 25, False)] * 2)
    assert sorted(tables) == ["st_en-fr/train.tsv", "st_en-pt-BR/train.tsv"]
    assert [row["n_frames"] for row in tables["st_en-fr/train.tsv"]] == [98, 98]


def test_invalid_parallel_texts_are_rejected_before_synthesis(tmp_path, capsys):
    text = tmp_path / "pairs.tsv"
    counts = dict.fromkeys(COUNTS, 0) | {"translated": 1}
    for content, message in [
        ("en\nHello.\n", "has no language but English to translate into"),
        ("en\tGerman words\na\tb\n", "not German words"),
        ("de\nHallo\n", "no column named en"),
    ]:
        text.write_text(content)
        with pytest.raises(SystemExit, match=message):
            main(arguments(tmp_path / "out", f"--text={text}", "--jobs=1", **counts))
        assert not (tmp_path / "out").exists()
