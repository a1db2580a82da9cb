"""A frozen upstream's states, computed once: ``python -m examples.superb.cache``.

    python -m examples.superb.cache runs/pretrained/checkpoint_best.pt data/superb/ks states/ks

Every clip's states of all layers ``(N, T, D)`` go in float16 into ``states/ks/<split>.zip``; the
manifests there point into it, and ``model.upstream=cached task.data=states/ks`` trains heads on
them. A split that is there is left alone, so that an interrupted run goes on. An hour of sound
takes 23 MB a layer at width 128 (25 states a second of 2 bytes a value).
"""

import argparse
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from manifests.common import atomic_path
from manifests.features import add_member, npy_bytes
from manifests.repoint import manifests_in
from mmpt_fairseq.data.manifest import COLUMNS, Manifest, write_manifest
from mmpt_fairseq.data.superb_dataset import READERS
from mmpt_fairseq.errors import InputError, UnreadableClip, exit_on_input_error
from mmpt_fairseq.models.upstreams import DESCRIPTION, open_upstream
from mmpt_fairseq.modules.upstreams import Upstream


def store_states(name: str, data: Path, out: Path, seed: int = 1) -> None:
    """Store the states of all splits under ``data``; ``seed`` is of an untrained encoder.

    Raises:
        InputError: no manifests, no such upstream, or ``out`` holds another upstream's states.
    """
    manifests = [Manifest(path) for path in manifests_in(data)]
    torch.manual_seed(seed)
    upstream = open_upstream(name, data)
    description = {
        "upstream": name,
        "seed": seed,
        "layers": upstream.layers,
        "dim": upstream.dim,
        "stride": upstream.stride,
    }
    path = out / DESCRIPTION
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != description:
        raise InputError(f"{out} holds the states of another upstream; give another folder")
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(description, indent=1), encoding="utf-8")
    for file in data.glob("labels.txt"):
        (out / file.name).write_bytes(file.read_bytes())
    for manifest in manifests:
        if not (out / manifest.path.name).is_file():
            _store_split(upstream, manifest, out)


def states_of(upstream: Upstream, source: str) -> np.ndarray:
    """``(N, T, D)`` float16 of one clip."""
    clip = torch.from_numpy(np.ascontiguousarray(READERS[upstream.reads](source)))
    with torch.no_grad():
        hidden = upstream(clip[None], torch.tensor([len(clip)]))
    return hidden.states[0].numpy().astype(np.float16)


def _store_split(upstream: Upstream, manifest: Manifest, out: Path) -> None:
    rows = []
    columns = {name: manifest.column(name) for name in COLUMNS}
    archive = out / f"{manifest.path.stem}.zip"
    with (
        atomic_path(archive) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as zipped,
    ):
        for i in tqdm(range(len(manifest)), desc=f"states {manifest.path.stem}", unit="clip"):
            row = {name: column[i] for name, column in columns.items()}
            source = manifest.resolve("audio", i)
            row["recording"] = row["recording"] or os.path.relpath(source, out)
            try:
                array = npy_bytes(states_of(upstream, source))
            except UnreadableClip as error:
                # Left as it is: training skips and counts it, evaluation stops at it.
                tqdm.write(f"{manifest.where(i)}: {error}")
                rows.append({**row, "audio": os.path.relpath(source, out)})
                continue
            offset, length = add_member(zipped, f"{i:09d}.npy", array)
            rows.append({**row, "audio": f"{archive.name}:{offset}:{length}"})
    write_manifest(out / manifest.path.name, rows)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("upstream", help="fbank, random:CKPT or a checkpoint")
    parser.add_argument("data", type=Path, help="folder of the manifests")
    parser.add_argument("out", type=Path, help="folder of the states")
    parser.add_argument("--seed", type=int, default=1, help="of an untrained encoder")
    args = parser.parse_args(arguments)
    with exit_on_input_error():
        store_states(args.upstream, args.data, args.out, args.seed)


if __name__ == "__main__":
    main()
