"""A frozen encoder's stored states: training is the same as on audio, or else refused."""

import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import mmpt_fairseq
from manifests.errors import InputError
from manifests.states import main, store_states
from mmpt_fairseq.checkpoint import encoder_digest, encoder_state, load_checkpoint
from mmpt_fairseq.data.audio import normalise, read_filterbank, read_states
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.states import StoredStates
from mmpt_fairseq.report.probes import load_probe
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask, SpeechToTextConfig
from tests.commands import losses, refused, succeeded, train
from tests.helpers import speech_model

FROZEN = ["+model.freeze_encoder=true", "optimization.max_update=6", "dataset.max_tokens=200"]
# The decoder's dropout draws the same random numbers in both; several batches per epoch.
SEARCH = {"beam": 3, "max_len_b": 20, "eos_token": None}
FROZEN += ["model.dropout=0.1", "optimization.lr=[0.01]"]


@pytest.fixture(scope="module")
def plain(corpora, tmp_path_factory) -> Path:
    """The transcribed data without SpecAugment."""
    folder = tmp_path_factory.mktemp("plain") / "asr"
    shutil.copytree(corpora / "asr", folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config.pop("feature_transforms") == {"_train": ["specaugment"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def checkpoint(stages) -> Path:
    return stages / "midtraining" / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def stored(plain, checkpoint, tmp_path_factory) -> Path:
    """The states of the transcribed data."""
    folder = tmp_path_factory.mktemp("stored") / "states"
    main([str(checkpoint), str(plain), str(folder)])
    return folder


def task(folder: Path, **options) -> ManifestSpeechToTextTask:
    settings = {"decodes_with": None, "train_subset": "train", "seed": 1, **options}
    return ManifestSpeechToTextTask(SpeechToTextConfig(data=str(folder), **settings))


def test_stored_states_are_those_of_the_last_layer(stored, plain, checkpoint):
    encoder = mmpt_fairseq.load(checkpoint).encoder
    for split in ("train", "valid", "test"):
        manifest, audio = Manifest(stored / f"{split}.tsv"), Manifest(plain / f"{split}.tsv")
        assert manifest.n_frames.tolist() == audio.n_frames.tolist()
        for row in (0, 7):
            features = normalise(read_filterbank(audio.resolve("audio", row)))
            with torch.no_grad():
                encoded = encoder(torch.from_numpy(features)[None], torch.tensor([len(features)]))
            states = read_states(manifest.resolve("audio", row))
            np.testing.assert_array_equal(states, encoded.states.numpy())
            assert Path(manifest.resolve("recording", row)).samefile(audio.resolve("audio", row))


def test_training_on_states_equals_training_on_audio(stored, plain, checkpoint, tmp_path):
    """Up to rounding, which depends on batching; then decoded from audio."""
    start = f"model.init_encoder_from={checkpoint}"
    outputs = {
        name: succeeded(train("finetuning", data, tmp_path / name, start, *FROZEN))
        for name, data in (("states", stored), ("audio", plain))
    }
    for key in ("train_loss", "valid_loss"):
        values = [[float(v) for v in losses(output, key)] for output in outputs.values()]
        assert values[0]
        assert values[0] == pytest.approx(values[1], abs=2e-3)  # as logged
    saved = [load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"] for name in outputs]
    before = encoder_state(load_checkpoint(checkpoint)["model"])
    for name, tensor in saved[0].items():
        # Adam takes steps of 0.01 even for gradients that are only rounding errors.
        assert torch.allclose(tensor, saved[1][name], atol=1e-3), name
    assert all(torch.equal(encoder_state(saved[0])[name], before[name]) for name in before)
    check_decoding(tmp_path / "states" / "checkpoint_last.pt", stored, plain)
    check_rounded(tmp_path / "states" / "checkpoint_last.pt", stored, tmp_path / "half.pt")
    assert "not trained on the data folder's states" in refused(
        train("finetuning", stored, tmp_path / "audio", start, *FROZEN)
    )


def check_rounded(checkpoint, stored, path):
    """Training in 16 bits rounds the encoder; it can still decode the states it was trained on."""
    saved = load_checkpoint(checkpoint)
    saved["model"] = {name: tensor.half().float() for name, tensor in saved["model"].items()}
    torch.save(saved, path)
    probe = load_probe(path, stored / "test.tsv")
    probe.task.build_generator([probe.model], Namespace(**SEARCH))
    del saved["task_state"]["states_of"]
    torch.save(saved, path)
    probe = load_probe(path, stored / "test.tsv")
    with pytest.raises(SystemExit, match="this model has another encoder"):
        probe.task.build_generator([probe.model], Namespace(**SEARCH))


def check_decoding(checkpoint, stored, plain):
    """Check that states and audio give the same hypotheses and scores."""
    found = []
    for folder in (stored, plain):
        probe = load_probe(checkpoint, folder / "test.tsv")
        assert probe.model.encoder.given_states == (folder == stored)
        batch = probe.dataset.collater([probe.dataset[row] for row in range(8)])
        generator = probe.task.build_generator([probe.model], Namespace(**SEARCH))
        hypotheses = generator.generate([probe.model], batch)
        rows = batch["id"].tolist()
        found.append(dict(zip(rows, hypotheses, strict=True)))
    for row, beam in found[0].items():
        for ours, theirs in zip(beam, found[1][row], strict=True):
            assert ours["tokens"].tolist() == theirs["tokens"].tolist()
            assert ours["score"].item() == pytest.approx(theirs["score"].item(), abs=1e-4)


def test_states_of_another_encoder_cannot_be_decoded(stored, stages):
    probe = load_probe(stages / "finetuning" / "checkpoint_last.pt", stored / "test.tsv")
    with pytest.raises(SystemExit, match="this model has another encoder"):
        probe.task.build_generator([probe.model], Namespace(**SEARCH))


def test_augmentation_of_stored_states_is_refused(stored, plain, checkpoint, corpora, tmp_path):
    with pytest.raises(InputError, match="sets SpecAugment for training, which stored states"):
        store_states(checkpoint, corpora / "asr", tmp_path / "states", False)
    assert not (tmp_path / "states").exists()
    with pytest.raises(SystemExit, match=r"task\.speeds and .* come too late"):
        task(stored, speeds=[0.9, 1.1]).load_dataset("train")
    folder = shutil.copytree(stored, tmp_path / "edited")
    shutil.copyfile(corpora / "asr" / "config.yaml", folder / "config.yaml")
    with pytest.raises(SystemExit, match="an encoder's states, for which SpecAugment"):
        task(folder).load_dataset("train")
    task(folder).load_dataset("valid")  # not augmented


def test_a_trainable_or_different_encoder_is_refused(stored, plain, checkpoint):
    states = StoredStates.describing(stored)
    states.check(encoder_digest(mmpt_fairseq.load(checkpoint).encoder))
    with pytest.raises(InputError, match=f"states of the encoder in {checkpoint}"):
        states.check(encoder_digest(speech_model().encoder.audio_encoder))
    with pytest.raises(InputError, match=r"set model\.freeze_encoder=true"):
        states.check_frozen(False)
    with pytest.raises(InputError, match="holds something else"):
        store_states(checkpoint, plain, plain, True)
    with pytest.raises(InputError, match="holds an encoder's states; give the manifests"):
        store_states(checkpoint, stored, stored.parent / "again", True)


def test_texts_are_updated_and_changed_clips_refused(plain, checkpoint, tmp_path):
    data, out = shutil.copytree(plain, tmp_path / "asr"), tmp_path / "states"
    store_states(checkpoint, data, out, False)
    before = (out / "train.tsv").read_text()
    text = (data / "train.tsv").read_text()
    (data / "train.tsv").write_text(text.replace("a red boat", "a red cat"))
    store_states(checkpoint, data, out, False)
    assert (out / "train.tsv").read_text() == before.replace("a red boat", "a red cat") != before
    (data / "train.tsv").write_text("\n".join(text.splitlines()[:-1]) + "\n")
    with pytest.raises(InputError, match=r"train\.tsv holds states of other clips"):
        store_states(checkpoint, data, out, False)


def test_specaugment_is_removed_on_request(corpora, checkpoint, tmp_path):
    store_states(checkpoint, corpora / "asr", tmp_path, True)
    assert "specaugment" not in (tmp_path / "config.yaml").read_text().split("specaugment:")[0]
    task(tmp_path).load_dataset("train")
    before = (tmp_path / "train.zip").stat().st_mtime_ns
    store_states(checkpoint, corpora / "asr", tmp_path, True)
    assert (tmp_path / "train.zip").stat().st_mtime_ns == before
