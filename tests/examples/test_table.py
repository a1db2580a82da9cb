"""The demo's novel test sentences and its results table."""

from itertools import product

from examples.demo.table import novel, table
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from tests.report.test_scores import edits


def test_novel_sentences_differ_in_more_than_one_word(tmp_path):
    """Compared with Levenshtein distance for all sentences of up to three of three words."""
    sentences = [" ".join(words) for n in (1, 2, 3) for words in product("abc", repeat=n)]
    rows = [{"id": t, "audio": "a.wav", "n_frames": 1, "tgt_text": t} for t in sentences]
    write_manifest(tmp_path / "test.tsv", rows)
    seen = ["a b c", "c c"]
    expected = [
        row
        for row, text in enumerate(sentences)
        if all(edits(text.split(), known.split()) > 1 for known in seen)
    ]
    assert 0 < len(expected) < len(sentences)
    assert novel(Manifest(tmp_path / "test.tsv"), seen) == expected


def test_the_table_has_scores_intervals_and_novel_sentences():
    rate = {"mean": [50.04, 45.0, 55.0], "seeds": [49.0, 51.0]}
    better = {**rate, "against_scratch": [-20.0, -25.0, -15.0]}
    found = {
        "wer": {"scratch": rate, "midtrained": better},
        "cer": {"scratch": rate, "midtrained": rate},
        "wer_of_novel": {"scratch": rate, "midtrained": better},
        "bleu": {"midtrained_mae_nl": [70.0, 72.0]},
        "rows": {"all": 300, "novel": 50},
        "seeds": [1, 2],
    }
    lines = table(found).splitlines()
    assert lines[1].split() == ["scratch", "50.0", "[45.0,", "55.0]", "±", "1.4", "50.0"]
    assert lines[2].endswith("-20.0 % [-25.0, -15.0]")
    assert lines[3].startswith("the 50 of 300 test sentences")
    assert lines[6] == "midtrained_mae_nl: BLEU 71.0 ± 1.4"
