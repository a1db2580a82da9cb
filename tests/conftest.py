"""Shared fixtures: one torch thread, real data if available, tiny corpora and checkpoints."""

import logging
import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def real_data() -> Path:
    """Folder of the real corpora; tests that use it are skipped without."""
    folder = os.environ.get("MMPT_REAL_DATA")
    if not folder:
        pytest.skip("MMPT_REAL_DATA does not name the folder of the real corpora")
    return Path(folder)


@pytest.fixture(autouse=True)
def restore_log_level():
    """Restore the log level after a test: our commands, if run in a test, disable warnings."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.fixture(scope="session")
def corpora(tmp_path_factory) -> Path:
    """``av`` (clips with video), ``st`` and ``asr`` (with vocabularies), eight rows per split."""
    from manifests.vocabulary import build_vocabulary
    from tests.helpers import write_clips

    root = tmp_path_factory.mktemp("corpora")
    seconds = [0.5 + 0.07 * i for i in range(8)]
    english = ["a red boat", "the cat", "one two", "red cat", "a boat", "two cats", "one", "the"]
    german = [
        "ein rotes boot",
        "die katze",
        "eins zwei",
        "rote katze",
        "ein boot",
        "zwei",
        "a",
        "b",
    ]
    for name, texts, language in [("av", None, ""), ("st", german, "de"), ("asr", english, "en")]:
        folder = root / name
        folder.mkdir()
        columns = {} if texts is None else {"tgt_text": texts, "tgt_lang": [language] * 8}
        manifest = write_clips(folder, seconds, video=texts is None, **columns)
        for split in ("valid", "test"):
            (folder / f"{split}.tsv").write_bytes(manifest.read_bytes())
        if texts is not None:
            build_vocabulary(folder, "char")
    return root


@pytest.fixture(scope="session")
def stages(corpora, tmp_path_factory) -> Path:
    """All three stages, two updates each: ``pretraining``, ``midtraining`` and ``finetuning``."""
    from tests.commands import succeeded, train

    root = tmp_path_factory.mktemp("stages")
    start: list[str] = []
    for name, data in [("pretraining", "av"), ("midtraining", "st"), ("finetuning", "asr")]:
        output = succeeded(train(name, corpora / data, root / name, *start, fresh=True))
        (root / name / "output.txt").write_text(output)
        start = [f"model.init_encoder_from={root / name / 'checkpoint_last.pt'}"]
    return root


@pytest.fixture(scope="session")
def superb(tmp_path_factory) -> Path:
    """``ks``, ``ic``, ``pr`` and ``sd``: manifests of the SUPERB tasks with six clips of tones."""
    from tests.superb import write_corpus

    root = tmp_path_factory.mktemp("superb")
    write_corpus(root)
    return root
