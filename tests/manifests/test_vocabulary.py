"""Vocabularies do not change texts: training targets are what is scored."""

from argparse import Namespace

import pytest
import yaml
from fairseq.data import Dictionary, encoders

from manifests import vocabulary
from manifests.errors import InputError
from manifests.pieces import Pieces
from manifests.text import clean
from mmpt_fairseq.data.manifest import write_manifest
from mmpt_fairseq.scoring import error_rates, normalise_text

# Each is changed by SentencePiece's default compatibility normalisation.
TEXTS = [
    "Wait... ½ of № 5…",
    "ﬁve ２０ ㎏ x²",
    "Ｔｏｋｙｏ：東京 ﾊﾝｶｸ",
    "e\u0301t\u0065\u0301 ǅ ſ",
    "a ™ 5\u00a0%",
]


@pytest.fixture(params=["char", "unigram", "bpe"])
def folder(request, tmp_path):
    rows = [
        {"id": i, "audio": "a.wav", "n_frames": 9, "tgt_text": clean(text)}
        for i, text in enumerate(TEXTS)
    ]
    write_manifest(tmp_path / "train.tsv", rows)
    vocabulary.main([str(tmp_path), "--kind", request.param, "--size", "80"])
    return tmp_path


def test_a_perfect_model_makes_no_errors(folder):
    """Through fairseq's encoder, dictionary and decoder."""
    dictionary = Dictionary.load(str(folder / "dict.txt"))
    model = Namespace(bpe="sentencepiece", sentencepiece_model=str(folder / "spm.model"))
    bpe = encoders.build_bpe(model)
    said = []
    for text in map(clean, TEXTS):
        tokens = dictionary.encode_line(bpe.encode(text), append_eos=False, add_if_not_exist=False)
        assert dictionary.unk() not in tokens
        said.append(bpe.decode(dictionary.string(tokens)))
    assert said == [clean(text) for text in TEXTS]
    assert error_rates(TEXTS, said) == {"wer": 0.0, "cer": 0.0}


def test_a_very_long_text_is_not_left_out(tmp_path):
    row = {"id": 0, "audio": "a.wav", "n_frames": 9, "tgt_text": "ж" * 3000 + "щ"}
    write_manifest(tmp_path / "train.tsv", [row])
    vocabulary.build_vocabulary(tmp_path)
    assert {"ж 1", "щ 1"} <= set((tmp_path / "dict.txt").read_text().splitlines())


def test_rebuilding_changes_nothing_but_the_vocabulary(tmp_path, capsys):
    rows = [
        {"id": n, "audio": "a.wav", "n_frames": 9, "tgt_text": "a", "tgt_lang": language}
        for n, language in enumerate(("de", "it"))
    ]
    write_manifest(tmp_path / "train.tsv", rows)
    vocabulary.build_vocabulary(tmp_path)
    config = tmp_path / "config.yaml"
    first = yaml.safe_load(config.read_text())
    config.write_text(config.read_text().replace("shuffle: true", "sampling_alpha: 0.5"))
    capsys.readouterr()
    vocabulary.build_vocabulary(tmp_path)
    del first["shuffle"]
    assert yaml.safe_load(config.read_text()) == {**first, "sampling_alpha": 0.5}
    output = capsys.readouterr().err
    assert "config.yaml is unchanged except for the vocabulary" in output
    assert "another vocabulary" not in output
    write_manifest(tmp_path / "train.tsv", rows[:1])
    vocabulary.build_vocabulary(tmp_path)
    assert "dict.txt held another vocabulary, of 4 entries" in capsys.readouterr().err
    assert "prepend_tgt_lang_tag" not in yaml.safe_load(config.read_text())
    for content in ("- a\n", "\ta: b\n"):
        config.write_text(content)
        with pytest.raises(InputError, match=r"config\.yaml cannot be read .*; fix or remove it"):
            vocabulary.build_vocabulary(tmp_path)
        assert config.read_text() == content


def test_scoring_changes_no_manifest_text():
    assert [normalise_text(clean(text)) for text in TEXTS] == [clean(text) for text in TEXTS]


def test_plain_text_is_cleaned_like_manifests_and_tokenised(folder):
    [line] = Pieces(folder)(["  e\u0301t\u0065\u0301 &amp; ǅ\n", " "])
    assert line.replace(" ", "").replace("▁", " ").strip() == "été & ǅ"
