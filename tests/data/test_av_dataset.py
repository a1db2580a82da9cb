import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from manifests.errors import InputError, UnreadableClip
from mmpt_fairseq.data.audio import normalise, read_filterbank
from mmpt_fairseq.data.av_dataset import AVDataset, Clip, ClipOptions
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.data.video import read_frames, transform_clip
from tests.helpers import clips, frame_number, write_clips

SMALL = {
    "max_audio_frames": 60,
    "video_num_frames": 4,
    "video_stride": 3,
    "video_size": 16,
    "patch_grid": (2, 4, 4),
}
FIELDS = ("audio", "audio_unmasked", "audio_mask", "video", "video_mask")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return clips(tmp_path_factory.mktemp("clips"), [0.3, 0.5, 0.9, 0.2], video=True)


def dataset(manifest, training=True, seed=1, epoch=1, **options):
    built = AVDataset(manifest, ClipOptions(**{**SMALL, **options}), training, seed)
    built.set_epoch(epoch)
    return built


def same(a: Clip, b: Clip) -> dict[str, bool]:
    return {name: torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS}


def test_clip_combines_features_masks_and_video(manifest):
    clip = dataset(manifest, training=False)[2]
    features = read_filterbank(manifest.resolve("audio", 2))[:60]
    masked = clip.audio_mask.repeat_interleave(4)[:60].numpy()
    assert np.array_equal(clip.audio_unmasked, normalise(features))
    assert np.array_equal(clip.audio, normalise(features, ~masked))
    assert (clip.audio_mask.shape, int(clip.audio_mask.sum())) == ((15,), 9)
    assert (clip.video_mask.shape, int(clip.video_mask.sum())) == ((32,), 19)
    num_shown = round(30 * 60 / manifest.n_frames[2])  # video frames shown during the 60 kept
    start = (num_shown - 10) // 2
    frames = read_frames(manifest.resolve("video", 2), start + 3 * np.arange(4))
    assert [frame_number(f) for f in frames] == [start, start + 3, start + 6, start + 9]
    assert torch.equal(clip.video, transform_clip(frames, 16))


def test_training_depends_on_seed_epoch_and_row_alone(manifest):
    one = dataset(manifest)
    np.random.seed(0)
    first = [one[i] for i in range(4)]
    np.random.seed(99)
    for i in (3, 0, 2, 1):
        assert all(same(dataset(manifest)[i], first[i]).values())
    for other in (dataset(manifest, epoch=2), dataset(manifest, seed=2)):
        again = [other[i] for i in range(4)]
        for name in ("audio", "audio_mask", "video", "video_mask"):
            assert not all(same(a, b)[name] for a, b in zip(first, again, strict=True))
        assert all(same(a, b)["audio_unmasked"] for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].video_mask, first[1].video_mask)


def test_evaluation_is_the_same_in_every_epoch(manifest):
    first, second = dataset(manifest, False, epoch=1), dataset(manifest, False, epoch=7)
    assert all(all(same(first[i], second[i]).values()) for i in range(4))


def test_samples_do_not_depend_on_workers_and_workers_get_the_epoch(manifest):
    data = dataset(manifest)
    alone = {epoch: {} for epoch in (1, 2)}
    for epoch, found in alone.items():
        data.set_epoch(epoch)
        found.update({i: data[i] for i in range(4)})
    for workers, order in ((0, [3, 1, 0, 2]), (1, [2, 3, 0, 1]), (2, [3, 0, 1, 2])):
        loader = DataLoader(
            data,
            sampler=order,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
        )
        for epoch, found in alone.items():
            data.set_epoch(epoch)
            clips = list(loader)
            assert [c.index for c in clips] == order
            assert all(all(same(c, found[c.index]).values()) for c in clips)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_the_same_and_counts_are_shared(tmp_path, start):
    manifest = clips(tmp_path, [0.3, 0.2], video=True)
    (tmp_path / "1.wav").unlink()
    data = dataset(manifest)
    loader = DataLoader(data, batch_size=None, num_workers=1, multiprocessing_context=start)
    clip, error = list(loader)
    assert (data.skipped.read, data.skipped.skipped) == (2, 1)
    assert all(same(clip, dataset(manifest)[0]).values())
    assert "line 3 (clip1): there is no audio file" in str(error)


def test_pickled_dataset_gives_the_same_clips(manifest):
    data = dataset(manifest)
    again = pickle.loads(pickle.dumps(data))
    assert all(all(same(data[i], again[i]).values()) for i in range(4))


def test_masked_frames_do_not_affect_visible_ones(tmp_path):
    """Not through normalisation either: other masked audio leaves visible features unchanged."""
    manifest = clips(tmp_path, [0.9, 0.6], video=True)
    rows = [manifest.fields(i) for i in range(2)]
    text = "\t".join(manifest.columns) + "\n"
    for i, row in enumerate(rows):
        np.save(tmp_path / f"{i}.npy", read_filterbank(manifest.resolve("audio", i)))
        text += "\t".join([row[0], f"{i}.npy", *row[2:]]) + "\n"
    (tmp_path / "cached.tsv").write_text(text)
    data = dataset(Manifest(tmp_path / "cached.tsv"), max_audio_frames=1000)
    for i in range(2):
        before = data[i]
        masked = before.audio_mask.repeat_interleave(4)[: len(before.audio)].numpy()
        features = np.load(tmp_path / f"{i}.npy")
        features[masked] = 1e6 * np.random.default_rng(i).normal(size=features[masked].shape)
        np.save(tmp_path / f"{i}.npy", features)
        after = data[i]
        assert torch.equal(before.audio_mask, after.audio_mask)
        assert torch.equal(before.audio[~masked], after.audio[~masked])
        assert not torch.isclose(before.audio[masked], after.audio[masked]).any()
        assert not torch.isclose(before.audio_unmasked, after.audio_unmasked).all()


def test_batch_is_padded_and_lists_the_rows_of_each_modality(manifest):
    data = dataset(manifest, max_audio_frames=1000)
    samples = [data[i] for i in (1, 3, 2)]
    samples[1].video = samples[1].video_mask = None
    batch = data.collater(samples)
    net_input = batch["net_input"]
    lengths = [len(s.audio) for s in samples]
    assert net_input["audio_lengths"].tolist() == lengths
    assert batch["id"].tolist() == [1, 3, 2]
    assert net_input["video_rows"].tolist() == [0, 2]
    for row, sample in enumerate(samples):
        for name in ("audio", "audio_unmasked"):
            assert torch.equal(net_input[name][row, : lengths[row]], getattr(sample, name))
            assert not net_input[name][row, lengths[row] :].any()
        tokens = len(sample.audio_mask)
        assert torch.equal(net_input["audio_mask"][row, :tokens], sample.audio_mask)
    assert torch.equal(net_input["video"][1], samples[2].video)
    assert torch.equal(net_input["video_mask"][1], samples[2].video_mask)
    assert batch["nsentences"] == 3
    assert batch["ntokens"] == sum(-(-n // 4) for n in lengths) + 2 * 32


def test_use_video_false_ignores_video(manifest):
    data = dataset(manifest, use_video=False)
    batch = data.collater([data[0]])
    assert "video" not in batch["net_input"]
    assert data.sizes.tolist() == [28, 48, 60, 18]


def test_sizes_and_order(manifest):
    data = dataset(manifest)
    assert data.sizes.tolist() == [28 + 128, 48 + 128, 60 + 128, 18 + 128]
    assert data.ordered_indices().tolist() == [2, 1, 0, 3]
    assert data.num_tokens(3) == data.size(3) == 146
    assert data.num_tokens_vec(np.array([0, 3])).tolist() == [156, 146]


def test_clips_of_equal_length_are_shuffled_in_training_only(tmp_path):
    manifest = clips(tmp_path, [0.1] * 12)
    np.random.seed(1)
    orders = {tuple(dataset(manifest).ordered_indices().tolist()) for _ in range(5)}
    assert len(orders) == 5
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert dataset(manifest, training=False).ordered_indices().tolist() == list(range(12))


def dataset_with_a_broken_video(tmp_path, training):
    path = write_clips(tmp_path, [0.3] * 3, video=True)
    (tmp_path / "1.mp4").write_text("no video")
    return dataset(Manifest(path), training)


def test_unusable_clips_are_skipped_and_counted_in_training(tmp_path):
    data = dataset_with_a_broken_video(tmp_path, training=True)
    batch = data.collater([data[i] for i in range(3)])
    assert batch["id"].tolist() == [0, 2]
    assert (data.skipped.read, data.skipped.skipped) == (3, 1)
    assert isinstance(data[1], UnreadableClip)
    assert data.collater([data[1]]) == {}
    for _ in range(100):
        data[1]
    with pytest.raises(InputError, match="1 of 3 clips could not be used"):
        data.skipped.check()


def test_unusable_clips_are_reported_in_evaluation(tmp_path):
    data = dataset_with_a_broken_video(tmp_path, training=False)
    batch = data.collater([data[i] for i in range(3)])
    (error,) = batch["unreadable"]
    assert f"{tmp_path / 'train.tsv'}, line 3 (clip1)" in error
    assert "cannot be read as video" in error


def test_video_without_frames_is_refused(tmp_path):
    path = write_clips(tmp_path, [0.3], video=True)
    path.write_text(path.read_text().replace("\t30\t", "\t0\t"))
    data = dataset(Manifest(path))
    assert "video_frames" in str(data[0])


def mixed_manifest(tmp_path):
    """Two clips with audio and video, and the first one again video-only and audio-only."""
    manifest = clips(tmp_path, [0.5, 0.3], video=True)
    both = [dict(zip(manifest.columns, manifest.fields(i), strict=True)) for i in range(2)]
    video_only = {**both[0], "id": "video", "audio": "", "n_frames": ""}
    audio_only = {**both[0], "id": "audio", "video": "", "video_frames": ""}
    write_manifest(tmp_path / "mixed.tsv", [*both, video_only, audio_only])
    return Manifest(tmp_path / "mixed.tsv", allow_video_only=True)


def test_audio_only_and_video_only_clips_can_share_a_batch(tmp_path):
    manifest = mixed_manifest(tmp_path)
    data = dataset(manifest, training=False)
    assert data.sizes.tolist() == [48 + 128, 28 + 128, 128, 48]
    both, other, video_only, audio_only = (data[i] for i in range(4))
    assert video_only.audio is video_only.audio_mask is audio_only.video is None
    assert torch.equal(video_only.video, both.video)
    assert torch.equal(audio_only.audio, data[3].audio)
    batch = data.collater([video_only, both, audio_only, other])
    net_input = batch["net_input"]
    assert net_input["audio_rows"].tolist() == [1, 2, 3]
    assert net_input["video_rows"].tolist() == [0, 1, 3]
    assert net_input["audio_lengths"].tolist() == [48, 48, 28]
    assert torch.equal(net_input["audio"][1], audio_only.audio)
    assert torch.equal(net_input["video"][0], video_only.video)
    assert batch["ntokens"] == 12 + 12 + 7 + 3 * 32
    assert {n for n in data.collater([video_only])["net_input"] if n.startswith("audio")} == set()


def test_pairs_alone_trains_on_audio_visual_clips_only(tmp_path):
    """In training only; evaluation covers all rows."""
    manifest = mixed_manifest(tmp_path)

    def order(training, alone):
        data = AVDataset(manifest, ClipOptions(**SMALL), training, pairs_only=alone)
        return sorted(data.ordered_indices().tolist())

    assert order(True, True) == [0, 1]
    assert order(True, False) == order(False, True) == [0, 1, 2, 3]


def test_mask_options_select_spans_and_tubes(manifest):
    plain = dataset(manifest, audio_mask_ratio=0.4)
    spans = dataset(manifest, audio_mask_ratio=0.4, audio_mask_span=6, video_tubes=True)
    for i in range(4):
        tubes = spans[i].video_mask.view(2, 16)
        assert torch.equal(tubes[0], tubes[1])
        assert int(tubes[0].sum()) == 10
        mask = spans[i].audio_mask
        assert int(mask.sum()) == int(plain[i].audio_mask.sum())
        # A single run, counted on a circle.
        assert int((mask != mask.roll(1)).sum()) == 2
    clip = plain[2].video_mask.view(2, 16)
    assert not torch.equal(clip[0], clip[1])


def test_modality_dropout_masks_one_modality_completely(manifest):
    outcomes = []
    for epoch in range(60):
        data = dataset(manifest, epoch=epoch, modality_dropout=0.5)
        clip, plain = data[1], dataset(manifest, epoch=epoch)[1]
        audio_dropped, video_dropped = bool(clip.audio_mask.all()), bool(clip.video_mask.all())
        outcomes.append((audio_dropped, video_dropped))
        assert torch.equal(clip.video, plain.video)
        if audio_dropped:
            assert torch.equal(clip.audio, clip.audio_unmasked)
        else:
            assert torch.equal(clip.audio, plain.audio)
    counts = {outcome: outcomes.count(outcome) for outcome in set(outcomes)}
    assert counts.keys() == {(False, False), (True, False), (False, True)}
    assert 18 <= counts[False, False] <= 42
    assert min(counts.values()) >= 5
    evaluated = dataset(manifest, training=False, modality_dropout=1.0)[1]
    assert not evaluated.audio_mask.all()
    assert not evaluated.video_mask.all()


def test_batches_of_mixed_clips_stay_within_the_token_limit(tmp_path):
    """Whether each modality is padded separately, as in the encoders, or both jointly."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "id": i,
            "audio": "" if content == "video" else "a.wav",
            "n_frames": int(rng.integers(20, 1000)),
            "video": "" if content == "audio" else "a.mp4",
            "video_frames": "" if content == "audio" else 30,
        }
        for i, content in enumerate(rng.choice(["both", "audio", "video"], 400))
    ]
    write_manifest(tmp_path / "train.tsv", rows)
    options = ClipOptions(**{**SMALL, "max_audio_frames": 800, "patch_grid": (2, 10, 10)})
    data = AVDataset(
        Manifest(tmp_path / "train.tsv", allow_video_only=True), options, training=True
    )
    batches = data.batch_by_size(data.ordered_indices(), max_tokens=5000)
    assert sorted(row for batch in batches for row in batch) == list(range(400))
    for batch in batches:
        audio_lengths = [min(800, rows[i]["n_frames"]) for i in batch if rows[i]["audio"]]
        videos = sum(bool(rows[i]["video"]) for i in batch)
        separately = len(audio_lengths) * max(audio_lengths, default=0) + videos * 800
        jointly = len(batch) * (max(audio_lengths, default=0) + 800 * bool(videos))
        assert max(separately, jointly) <= 5000
