"""Several language pairs in one training, balanced by ``sampling_alpha``."""

import numpy as np
import pytest
from fairseq.data.audio.data_cfg import S2TDataConfig
from fairseq.data.data_utils import numpy_seed

from manifests.errors import InputError
from mmpt_fairseq.data.language_pairs import ManifestDatasetCreator
from tests.helpers import words, write_clips


def test_sampling_balances_language_pairs_of_any_split_names(tmp_path):
    """Ten German and two Italian rows are sampled equally often."""
    for language, rows in (("de", 10), ("it", 2)):
        (tmp_path / language).mkdir()
        columns = {"tgt_text": ["ja"] * rows, "tgt_lang": [language] * rows}
        write_clips(tmp_path / language, [0.4] * rows, **columns)
    joined = joined_splits(tmp_path, "de/train,it/train")
    assert [len(part) for part in joined.datasets] == [6, 6]


def test_size_ratios_do_not_overflow(tmp_path):
    """The frame count exceeds 32 bits; one row has no language."""
    hours = {"de": 10_000, "it": 90_000}
    for language in hours:
        (tmp_path / language).mkdir()
        columns = {"tgt_text": ["ja", "ja"], "tgt_lang": [language, ""]}
        write_clips(tmp_path / language, [0.4, 0.4], **columns)
    parts = joined_splits(tmp_path, "de/train,it/train", alpha=1).datasets
    for part, frames in zip(parts, hours.values(), strict=True):
        part.n_frames = np.full(10_000, 36 * frames, np.int32)
    ratios = ManifestDatasetCreator.get_size_ratios(parts, alpha=0.5)
    assert ratios == pytest.approx([2.5, 5 / 6])  # a quarter and three quarters


def test_joined_splits_are_reshuffled_every_epoch(tmp_path):
    """Longest first, with ties shuffled in training and in a fixed order in validation."""
    for name in "ab":
        (tmp_path / name).mkdir()
        write_clips(tmp_path / name, [0.4, 0.6, 0.4, 0.4, 0.6, 0.4], tgt_text=["ja"] * 6)
    orders = {}
    for training in (True, False):
        joined = joined_splits(tmp_path, "a/train,b/train", alpha=1, training=training)
        epoch_orders = []
        for epoch in (1, 2, 1):
            with numpy_seed(epoch):
                epoch_orders.append(joined.ordered_indices())
            lengths = joined.sizes[epoch_orders[-1]]
            tokens = [joined.num_tokens(row) for row in epoch_orders[-1]]
            assert joined.num_tokens_vec(epoch_orders[-1]).tolist() == tokens == lengths.tolist()
            assert sorted(epoch_orders[-1]) == list(range(12))
            assert (lengths[:-1] >= lengths[1:]).all()
        orders[training] = [order.tolist() for order in epoch_orders]
    assert orders[True][0] == orders[True][2] != orders[True][1]
    assert orders[False][0] == orders[False][1] == [1, 4, 7, 10, 0, 2, 3, 5, 6, 8, 9, 11]


def test_split_with_several_language_pairs_cannot_be_balanced(tmp_path):
    """Alone and together with another split."""
    for name, languages in (("a", ["de", "it"]), ("b", ["de", "de"])):
        (tmp_path / name).mkdir()
        write_clips(tmp_path / name, [0.4, 0.4], tgt_text=["ja", "ja"], tgt_lang=languages)
    message = r"a/train\.tsv holds several language pairs \(-de, -it\)"
    for splits in ("a/train,b/train", "a/train"):
        with pytest.raises(InputError, match=message):
            joined_splits(tmp_path, splits)
        assert len(joined_splits(tmp_path, splits, alpha=1)) == 2 * len(splits.split(","))
        assert len(joined_splits(tmp_path, splits, training=False)) == 2 * len(splits.split(","))
    assert len(joined_splits(tmp_path, "b/train")) == 2
    (tmp_path / "c").mkdir()
    columns = {"tgt_text": ["ja", "ja"], "tgt_lang": ["de", "de"], "src_lang": ["en", ""]}
    write_clips(tmp_path / "c", [0.4, 0.4], **columns)
    assert (
        len(joined_splits(tmp_path, "c/train")) == 2
    )  # the empty cell does not count as a language


def joined_splits(root, splits: str, alpha: float = 0, training: bool = True):
    """Load splits with this ``sampling_alpha`` as the task does."""
    config = f"vocab_filename: dict.txt\nshuffle: true\nsampling_alpha: {alpha}\n"
    (root / "config.yaml").write_text(config)
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
