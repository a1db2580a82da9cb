"""Precompute a frozen encoder's states: ``python -m manifests.states CHECKPOINT DATA OUT``.

    python -m manifests.states runs/midtrained/checkpoint_best.pt data/asr data/asr_states \
        --without-specaugment
    fairseq-hydra-train ... task.data=data/asr_states +model.freeze_encoder=true \
        model.init_encoder_from=runs/midtrained/checkpoint_best.pt

Stage 3 with ``model.freeze_encoder=true`` runs the same encoder over the same clips in every epoch.
This command stores every clip's states ``(1, T, D)`` in ``OUT/<split>.zip``, in float32, with
manifests that point to them, the vocabulary and the config in OUT. Training on them is the same up
to rounding; its checkpoints hold the whole encoder, as usual, and decode from audio.

States come after augmentation, so that they cannot be augmented. For a split that is already
stored only the texts are updated, so that an interrupted run resumes. An hour of audio takes 92 MB
at width 256.
"""

import argparse
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

import mmpt_fairseq
from manifests.common import atomic_path
from manifests.errors import InputError, UnreadableClip, command_line
from manifests.features import add_member, npy_bytes
from manifests.repoint import absolute, open_manifests, relative, rows
from mmpt_fairseq.checkpoint import encoder_digest
from mmpt_fairseq.data.audio import normalise, read_filterbank
from mmpt_fairseq.data.data_folder import DATA_CONFIG, read_config
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.data.states import DESCRIPTION, StoredStates
from mmpt_fairseq.extensions import add_user_dir, import_user_dir
from mmpt_fairseq.modules.conformer import ConformerEncoder


def store_states(
    checkpoint: Path, data: Path, out: Path, without_specaugment: bool, device: str | None = None
) -> None:
    """Store the last layer's states of every split under ``data`` in ``out``.

    Raises:
        InputError: no manifests, no encoder in the checkpoint, ``out`` holds another encoder's
            states, or the data's config has SpecAugment and ``without_specaugment`` is false.
    """
    manifests = open_manifests([data], allow_video_only=False)
    config = _config(data, without_specaugment)
    encoder = mmpt_fairseq.load(checkpoint, device).encoder
    states = StoredStates(str(checkpoint), encoder_digest(encoder))
    earlier = StoredStates.describing(out)
    if out.resolve() == data.resolve() or (earlier and earlier.encoder != states.encoder):
        raise InputError(f"{out} already holds something else; give another folder")
    with atomic_path(out / DESCRIPTION) as temporary:
        states.write(temporary)
    if config is not None:
        _take_config(config, data, out)
    for manifest in manifests:
        stored = out / manifest.path.name
        if stored.is_file():
            copy_texts(manifest, Manifest(stored))
        else:
            store_split(manifest, out, partial(last_states, encoder, manifest))


def copy_texts(manifest: Manifest, stored: Manifest) -> None:
    """Rewrite a stored manifest with the current texts of its source.

    Raises:
        InputError: the source's clips have changed.
    """
    if [*manifest.column("id"), *manifest.n_frames] != [*stored.column("id"), *stored.n_frames]:
        raise InputError(
            f"{stored.path} holds states of other clips than {manifest.path} now has; remove "
            "it to store them again"
        )
    kept = ("audio", "recording")
    pairs = list(zip(rows(manifest), rows(stored), strict=True))
    write_manifest(stored.path, [new | {k: old[k] for k in kept} for new, old in pairs])


def last_states(encoder: ConformerEncoder, manifest: Manifest, row: int) -> NDArray[np.float32]:
    """``(1, T, D)`` of one clip, as the encoder passes them to the CTC head and the decoder."""
    filterbank = read_filterbank(manifest.resolve("audio", row))
    features = torch.from_numpy(normalise(filterbank))[None]
    features = features.to(next(encoder.parameters()).device)
    lengths = torch.tensor([features.size(1)], device=features.device)
    with torch.inference_mode():
        return encoder(features, lengths).states.float().cpu().numpy()


def store_split(manifest: Manifest, out: Path, states_of: Callable[[int], NDArray]) -> None:
    """Store the states of every clip of a manifest, and write a manifest in ``out`` for them.

    Args:
        states_of: row -> ``(layers, T, D)``; raises UnreadableClip for an unreadable clip.
    """
    archive = out / f"{manifest.path.stem}.zip"
    with (
        atomic_path(archive) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as zipped,
    ):
        pointing = list(_pointing(manifest, zipped, archive, states_of))
    # Only after the archive is in place.
    write_manifest(out / manifest.path.name, pointing)


def _pointing(
    manifest: Manifest, zipped: zipfile.ZipFile, archive: Path, states_of: Callable[[int], NDArray]
) -> Iterator[dict[str, str]]:
    """Rows that point into the archive; states are stored as the rows are consumed."""
    label = f"states {manifest.path.stem}"
    for i, row in enumerate(tqdm(rows(manifest), label, len(manifest), unit="clip")):
        recording = absolute(manifest.path, row["recording"] or row["audio"])
        row["recording"] = relative(archive, recording)
        try:
            array = npy_bytes(states_of(i))
            offset, length = add_member(zipped, f"{i:09d}.npy", array)
            row["audio"] = f"{archive.name}:{offset}:{length}"
        except UnreadableClip as error:
            # Keeps its audio: training skips and counts it, evaluation stops at it.
            tqdm.write(f"{manifest.where(i)}: {error}")
            row["audio"] = relative(archive, absolute(manifest.path, row["audio"]))
        yield row


def _config(data: Path, without_specaugment: bool) -> dict | None:
    """fairseq's data config of ``data`` without SpecAugment; None where there is none."""
    config = read_config(data)
    if config is None:
        return None
    transforms = config.get("feature_transforms") or {}
    augmented = any("specaugment" in names for names in transforms.values())
    if augmented and not without_specaugment:
        raise InputError(
            f"{data / DATA_CONFIG} sets SpecAugment for training, which stored states cannot "
            "have; give --without-specaugment to train without it, or train on the audio"
        )
    left = {k: [n for n in names if n != "specaugment"] for k, names in transforms.items()}
    return {**config, "feature_transforms": left} if augmented else config


def _take_config(config: dict, data: Path, out: Path) -> None:
    """Write the config with the files that it names, as :mod:`manifests.vocabulary` does."""
    names = [config.get("vocab_filename")]
    names.append((config.get("bpe_tokenizer") or {}).get("sentencepiece_model"))
    for name in filter(None, names):
        if (data / name).is_file() and not os.path.isabs(name):
            (out / name).write_bytes((data / name).read_bytes())
    with atomic_path(out / DATA_CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m manifests.states", description=__doc__.splitlines()[0]
    )
    parser.add_argument("checkpoint", type=Path, help="of any stage; its encoder is the frozen one")
    parser.add_argument("data", type=Path, help="folder of manifests")
    parser.add_argument("out", type=Path, help="folder of the states and their manifests")
    parser.add_argument(
        "--without-specaugment", action="store_true", help="remove it from the data's config"
    )
    parser.add_argument("--device", help="torch device; default: a GPU if there is one")
    add_user_dir(parser)
    args = parser.parse_args(arguments)
    with command_line():
        import_user_dir(args)
        store_states(args.checkpoint, args.data, args.out, args.without_specaugment, args.device)


if __name__ == "__main__":
    main()
