"""Several language pairs in one training, balanced by ``sampling_alpha``."""

import pytest
from fairseq.data.audio.data_cfg import S2TDataConfig

from mmpt_fairseq.data.speech_to_text_dataset import ManifestDatasetCreator
from mmpt_fairseq.errors import InputError
from tests.helpers import words, write_clips


def test_sampling_balances_language_pairs_whatever_their_splits_are_called(tmp_path):
    """Ten rows of German and two of Italian, drawn in equal amounts."""
    for language, rows in (("de", 10), ("it", 2)):
        (tmp_path / language).mkdir()
        columns = {"tgt_text": ["ja"] * rows, "tgt_lang": [language] * rows}
        write_clips(tmp_path / language, [0.4] * rows, **columns)
    joined = joined_splits(tmp_path, "de/train,it/train")
    assert [len(part) for part in joined.datasets] == [6, 6]


def test_a_split_of_several_pairs_cannot_be_balanced(tmp_path):
    """Whether or not there are others beside it."""
    for name, languages in (("a", ["de", "it"]), ("b", ["de", "de"])):
        (tmp_path / name).mkdir()
        write_clips(tmp_path / name, [0.4, 0.4], tgt_text=["ja", "ja"], tgt_lang=languages)
    told = r"a/train\.tsv holds several language pairs \(-de, -it\)"
    for splits in ("a/train,b/train", "a/train"):
        with pytest.raises(InputError, match=told):
            joined_splits(tmp_path, splits)
        assert len(joined_splits(tmp_path, splits, alpha=1)) == 2 * len(splits.split(","))
        assert len(joined_splits(tmp_path, splits, training=False)) == 2 * len(splits.split(","))
    assert len(joined_splits(tmp_path, "b/train")) == 2
    (tmp_path / "c").mkdir()
    columns = {"tgt_text": ["ja", "ja"], "tgt_lang": ["de", "de"], "src_lang": ["en", ""]}
    write_clips(tmp_path / "c", [0.4, 0.4], **columns)
    assert len(joined_splits(tmp_path, "c/train")) == 2  # the empty cell is no second language


def joined_splits(root, splits: str, alpha: float = 0, training: bool = True):
    """Splits with this ``sampling_alpha``, as the task reads them."""
    (root / "config.yaml").write_text(f"vocab_filename: dict.txt\nsampling_alpha: {alpha}\n")
    return ManifestDatasetCreator.from_tsv(
        root=str(root),
        cfg=S2TDataConfig(root / "config.yaml"),
        splits=splits,
        tgt_dict=words("ja"),
        pre_tokenizer=None,
        bpe_tokenizer=None,
        is_train_split=training,
        epoch=1,
        seed=1,
        ours={},
    )
