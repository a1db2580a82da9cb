import io
import zipfile

import numpy as np
import pytest
import torch
from fairseq.data.audio.data_cfg import S2TDataConfig
from fairseq.data.audio.feature_transforms.specaugment import SpecAugmentTransform
from fairseq.data.audio.feature_transforms.utterance_cmvn import UtteranceCMVN
from fairseq.data.audio.speech_to_text_dataset import SpeechToTextDatasetCreator
from torch.utils.data import DataLoader

from manifests.errors import InputError, UnreadableClip
from mmpt_fairseq.data.audio import normalise, read_filterbank, subsampled
from mmpt_fairseq.data.augment import Augmentation
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.data.speech_to_text_dataset import ManifestSpeechToTextDataset
from tests.helpers import clips, words, write_clips

PLAIN = "vocab_filename: dict.txt\n"
SPECAUGMENT = """
transforms: {_train: [specaugment]}
specaugment: {freq_mask_N: 1, freq_mask_F: 27, time_mask_N: 1, time_mask_T: 100, time_mask_p: 1.0}
"""
TEXTS = ["ja nein", "nein", "ja ja ja"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return clips(folder, [0.3, 0.9, 0.5], tgt_text=TEXTS, tgt_lang=["de", "it", "de"])


def data_config(folder, text=PLAIN):
    (folder / "config.yaml").write_text(text)
    return S2TDataConfig(folder / "config.yaml")


def dataset(
    manifest,
    tmp_path,
    config=PLAIN,
    training=True,
    seed=1,
    epoch=1,
    vocabulary=None,
    **options,
):
    vocabulary = vocabulary or words("ja", "nein", "<lang:de>", "<lang:it>")
    config = data_config(tmp_path, config)
    built = ManifestSpeechToTextDataset(
        manifest, config, training, seed, tgt_dict=vocabulary, **options
    )
    built.set_epoch(epoch)
    return built


def test_items_are_normalised_features_and_tokens(manifest, tmp_path):
    data = dataset(manifest, tmp_path)
    vocabulary = data.tgt_dict
    for i, text in enumerate(TEXTS):
        expected = normalise(read_filterbank(manifest.resolve("audio", i)))
        assert np.array_equal(data[i].source, expected)
        tokens = [vocabulary.index(w) for w in text.split()] + [vocabulary.eos()]
        assert data[i].target.tolist() == tokens
    assert data.tgt_lens.tolist() == [2, 1, 3]


@pytest.mark.parametrize("tag", [False, True])
def test_ctc_targets_hold_neither_eos_nor_language_tag(manifest, tmp_path, tag):
    data = dataset(manifest, tmp_path, f"prepend_tgt_lang_tag: {str(tag).lower()}\n")
    vocabulary = data.tgt_dict
    batch = data.collater([data[i] for i in range(3)])
    assert batch["id"].tolist() == [1, 2, 0]  # fairseq sorts by length
    assert batch["ctc_target_lengths"].tolist() == [1, 3, 2]
    for row, i in enumerate([1, 2, 0]):
        tokens = [vocabulary.index(w) for w in TEXTS[i].split()]
        padded = tokens + [vocabulary.pad()] * (3 - len(tokens))
        assert batch["ctc_target"][row].tolist() == padded
        first = [vocabulary.index(f"<lang:{['de', 'it', 'de'][i]}>")] if tag else []
        target = [*first, *tokens, vocabulary.eos()]
        assert batch["target"][row, : len(target)].tolist() == target
        source = batch["net_input"]["src_tokens"][row]
        assert torch.equal(source[: len(data[i].source)], data[i].source)
        assert not source[len(data[i].source) :].any()


def test_specaugment_depends_on_seed_epoch_and_row_alone(manifest, tmp_path):
    def sources(order=(0, 1, 2), global_seed=0, **kwargs):
        np.random.seed(global_seed)
        data = dataset(manifest, tmp_path, SPECAUGMENT, **kwargs)
        return {i: data[i].source for i in order}

    first = sources()
    plain = {i: dataset(manifest, tmp_path)[i].source for i in range(3)}
    changed = [(first[i] != plain[i]).float().mean().item() for i in range(3)]
    assert all(0 < fraction < 1 for fraction in changed)
    assert len({round(fraction, 4) for fraction in changed}) == 3  # drawn separately for each row
    again = sources((2, 0, 1), global_seed=7)
    assert all(torch.equal(first[i], again[i]) for i in range(3))
    for other in (sources(epoch=2), sources(seed=2)):
        assert not any(torch.equal(first[i], other[i]) for i in range(3))
    for epoch in (1, 2):
        evaluated = sources(training=False, epoch=epoch)
        assert all(torch.equal(plain[i], evaluated[i]) for i in range(3))


def test_specaugment_matches_fairseq_and_keeps_the_global_random_state(manifest, tmp_path):
    data = dataset(manifest, tmp_path, SPECAUGMENT)
    np.random.seed(3)
    expected_next = np.random.RandomState(3).random_sample()
    augmented = data[1].source.numpy()
    assert np.random.random_sample() == expected_next
    plain = dataset(manifest, tmp_path)[1].source.numpy()
    np.random.seed(int(hash((1, 1, 1)) % 1e6))  # fairseq's numpy_seed of (seed, epoch, row)
    transform = SpecAugmentTransform.from_config_dict(data.cfg.config["specaugment"])
    assert np.array_equal(augmented, transform(plain))


def test_samples_do_not_depend_on_workers(manifest, tmp_path):
    data = dataset(manifest, tmp_path, SPECAUGMENT)
    for epoch in (1, 2):
        data.set_epoch(epoch)
        alone = [data[i].source for i in range(3)]
        for workers, order in ((1, [2, 0, 1]), (2, [1, 2, 0])):
            loader = DataLoader(
                data,
                sampler=order,
                batch_size=None,
                num_workers=workers,
                multiprocessing_context="fork",
            )
            items = list(loader)
            assert [item.index for item in items] == order
            assert all(torch.equal(item.source, alone[item.index]) for item in items)


def test_manifest_written_by_fairseq_gives_the_same_batches(tmp_path):
    """From features in a ZIP with offsets, fairseq's dataset and this one read the same."""
    rng = np.random.default_rng(0)
    features = {f"ted_{i}": rng.normal(size=(20 + i, 80)).astype(np.float32) for i in range(4)}
    with zipfile.ZipFile(tmp_path / "fbank80.zip", "w", zipfile.ZIP_STORED) as archive:
        for name, array in features.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    lines = ["id\taudio\tn_frames\ttgt_text\tspeaker"]
    with zipfile.ZipFile(tmp_path / "fbank80.zip") as archive:
        for i, info in enumerate(archive.infolist()):
            offset = info.header_offset + 30 + len(info.filename)  # as fairseq's get_zip_manifest
            slice_ = f"fbank80.zip:{offset}:{info.file_size}"
            lines.append(f"ted_{i}\t{slice_}\t{20 + i}\tja nein" + " ja" * i + f"\tspk.{i % 2}")
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    config = data_config(tmp_path, f"audio_root: {tmp_path}\n")
    vocabulary = words("ja", "nein")
    theirs = SpeechToTextDatasetCreator.from_tsv(
        str(tmp_path), config, "train", vocabulary, None, None, True, 1, 1
    )
    ours = ManifestSpeechToTextDataset(
        Manifest(tmp_path / "train.tsv"), config, True, 1, tgt_dict=vocabulary
    )
    assert list(ours.speakers) == theirs.speakers
    assert list(ours.ids) == theirs.ids
    assert list(ours.n_frames) == theirs.n_frames
    assert list(ours.tgt_lens) == theirs.tgt_lens
    for i in range(4):
        assert np.array_equal(theirs[i].source, features[f"ted_{i}"])
        expected = UtteranceCMVN()(features[f"ted_{i}"].astype(np.float64))
        assert ours[i].source.numpy() == pytest.approx(expected, abs=1e-4)
        assert torch.equal(ours[i].target, theirs[i].target)
    our_batch, their_batch = (d.collater([d[i] for i in range(4)]) for d in (ours, theirs))
    for name in ("id", "target", "target_lengths"):
        assert torch.equal(our_batch[name], their_batch[name])
    for name in ("src_lengths", "prev_output_tokens"):
        assert torch.equal(our_batch["net_input"][name], their_batch["net_input"][name])


def test_unusable_clips_are_skipped_in_training_and_reported_in_evaluation(tmp_path):
    path = write_clips(tmp_path, [0.3] * 3, tgt_text=TEXTS)
    (tmp_path / "1.wav").write_text("no audio")
    training = dataset(Manifest(path), tmp_path)
    batch = training.collater([training[i] for i in range(3)])
    assert sorted(batch["id"].tolist()) == [0, 2]
    assert (training.skipped.read, training.skipped.skipped) == (3, 1)
    assert isinstance(training[1], UnreadableClip)
    assert training.collater([training[1]]) == {}
    evaluation = dataset(Manifest(path), tmp_path, training=False)
    (error,) = evaluation.collater([evaluation[i] for i in range(3)])["unreadable"]
    assert f"{path}, line 3 (clip1)" in error


def test_vocabulary_of_other_text_is_refused(manifest, tmp_path):
    with pytest.raises(InputError, match="6 of 6 tokens of tgt_text are not in the vocabulary"):
        dataset(manifest, tmp_path, vocabulary=words("yes", "no"))
    assert len(dataset(manifest, tmp_path, vocabulary=words("ja"))) == 3  # 2 of 6 unknown
    with pytest.raises(InputError, match="no tag <lang:it>"):
        dataset(
            manifest,
            tmp_path,
            "prepend_tgt_lang_tag: true\n",
            vocabulary=words("ja", "nein", "<lang:de>"),
        )


def test_targets_too_long_for_ctc_are_counted(tmp_path, caplog):
    # 28 frames become 7; CTC needs a blank between repeated tokens.
    texts = ["ja nein ja nein ja nein ja nein", "ja nein ja nein ja nein ja", "ja ja ja ja ja"]
    manifest = clips(tmp_path, [0.3, 0.3, 0.3], tgt_text=texts)
    with caplog.at_level("WARNING"):
        dataset(manifest, tmp_path)
    assert "2 of 3 targets are longer than their audio after subsampling; " in caplog.text
    # At twice the speed, 14 frames become 4.
    with caplog.at_level("WARNING"):
        dataset(manifest, tmp_path, augmentation=Augmentation((1.0, 2.0)))
    assert "3 of 3 targets are longer than their audio after subsampling at speed 2" in caplog.text


def test_unknown_tokens_count_as_one_ctc_label(tmp_path, caplog):
    """torch's CTC loss over 7 frames is infinite for exactly the targets that are counted."""
    texts = ["ja nein ja nein ja yes no", "ja nein yes ja no ja nein", "ja nein ja nein ja yes yes"]
    manifest = clips(tmp_path, [0.3, 0.3, 0.3], tgt_text=texts)
    with caplog.at_level("WARNING"):
        data = dataset(manifest, tmp_path)
    frames, size = int(subsampled(torch.tensor(28))), len(data.tgt_dict)
    aligned = [
        torch.nn.functional.ctc_loss(
            torch.zeros(frames, size).log_softmax(-1),
            data[row].ctc_target,
            torch.tensor(frames),
            torch.tensor(7),
        ).isfinite()
        for row in range(3)
    ]
    assert aligned == [False, True, False]
    assert "2 of 3 targets are longer than their audio" in caplog.text


def test_rows_are_ordered_longest_first(manifest, tmp_path):
    data = dataset(manifest, tmp_path)
    assert data.ordered_indices().tolist() == [1, 2, 0]
    assert data.sizes.tolist() == [28, 88, 48]
    assert data.num_tokens_vec(np.array([2, 0])).tolist() == [48, 28]


@pytest.mark.parametrize(
    "option",
    [
        "waveform_transforms: {_train: [musicaugment]}\nmusicaugment: {samples_path: FOLDER}",
        "dataset_transforms: {_train: [concataugment]}\nconcataugment: {rate: 1.0}",
        "use_audio_input: true",
        "prepend_bos_and_append_tgt_lang_tag: true",
    ],
)
def test_unsupported_fairseq_options_are_refused(manifest, tmp_path, option):
    with pytest.raises(InputError, match=option.split(":")[0]):
        dataset(manifest, tmp_path, option.replace("FOLDER", str(manifest.path.parent)))


def test_augmentation_depends_on_seed_epoch_and_row_alone(manifest, tmp_path):
    augmentation = Augmentation((0.9, 1.0, 1.1), manifest, 1.0, (0.0, 10.0))

    def sources(**options):
        data = dataset(manifest, tmp_path, augmentation=augmentation, **options)
        return [data[i].source for i in (2, 0, 1, 0)]

    def same(a, b):
        return all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(a, b, strict=True))

    first = sources()
    assert same(first, sources())
    assert torch.equal(first[1], first[3])
    assert not same(first, sources(epoch=2))
    assert not same(first, sources(seed=2))
    assert not same(first, [dataset(manifest, tmp_path)[i].source for i in (2, 0, 1, 0)])
    data = dataset(manifest, tmp_path, augmentation=augmentation)
    loader = DataLoader(data, batch_size=None, sampler=[2, 0, 1, 0], num_workers=2)
    assert same(first, [item.source for item in loader])


def test_augmentation_of_cached_features_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.random.randn(50, 80).astype(np.float32))
    row = {"id": "a", "audio": "a.npy", "n_frames": 50, "tgt_text": "ja"}
    write_manifest(tmp_path / "train.tsv", [row])
    cached = Manifest(tmp_path / "train.tsv")
    assert len(dataset(cached, tmp_path)) == 1
    with pytest.raises(InputError, match=r"line 2 \(a\) holds cached features"):
        dataset(cached, tmp_path, augmentation=Augmentation((0.9,)))


def test_evaluation_batches_contain_reference_texts(manifest, tmp_path):
    data = dataset(manifest, tmp_path, training=False)
    batch = data.collater([data[i] for i in (0, 1, 2)])
    assert batch["texts"] == [TEXTS[i] for i in batch["id"].tolist()]


def test_ctc_from_source_aligns_the_source_text(tmp_path):
    texts = {"tgt_text": ["ja nein", "ja"], "src_text": ["nein nein ja", "nein"]}
    manifest = clips(tmp_path, [0.3, 0.5], tgt_lang=["de", "de"], **texts)
    config = "prepend_tgt_lang_tag: true\n"
    data = dataset(manifest, tmp_path, config, ctc_from_source=True)
    index = data.tgt_dict.index
    batch = data.collater([data[0], data[1]])
    rows = dict(zip(batch["id"].tolist(), range(2), strict=True))
    aligned = batch["ctc_target"][rows[0], : batch["ctc_target_lengths"][rows[0]]]
    assert aligned.tolist() == [index("nein"), index("nein"), index("ja")]
    target = batch["target"][rows[0]].tolist()
    assert target == [index(t) for t in ("<lang:de>", "ja", "nein", "</s>")]
    assert data.ctc_lens.tolist() == [4, 1]


def test_rows_without_source_text_have_no_ctc_term(tmp_path, caplog):
    caplog.set_level("INFO", "mmpt_fairseq")
    manifest = clips(tmp_path, [0.3, 0.5], tgt_text=["ja", "ja"], src_text=["nein", " "])
    data = dataset(manifest, tmp_path, ctc_from_source=True)
    batch = data.collater([data[0], data[1]])
    lengths = dict(zip(batch["id"].tolist(), batch["ctc_target_lengths"].tolist(), strict=True))
    assert lengths == {0: 1, 1: 0}
    assert "1 rows without src_text have no CTC term" in caplog.text


def test_vocabulary_without_source_text_is_refused(tmp_path):
    manifest = clips(tmp_path, [0.3], tgt_text=["ja"], src_text=["yes"])
    with pytest.raises(InputError, match=r"1 of 1 tokens of src_text .*--with-source"):
        dataset(manifest, tmp_path, ctc_from_source=True)
