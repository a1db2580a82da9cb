"""Hypotheses depend on their own clip only, not on batch size, order, padding or workers."""

import pytest
import soundfile
import torch
from fairseq.sequence_generator import SequenceGenerator

from mmpt_fairseq.data.audio import normalise, num_frames, read_filterbank
from mmpt_fairseq.data.manifest import write_manifest
from mmpt_fairseq.decoding.ctc import CTCGreedyGenerator, CTCPrefixBeamGenerator
from mmpt_fairseq.decoding.ensemble import JointEnsemble
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask, SpeechToTextConfig
from tests.helpers import speech_model

LENGTHS = [37, 120, 61, 240, 59, 180, 88]
SEARCHES = ["attention", "joint", "ctc", "ctc_beam"]


def decode(generator, model, clips: list[torch.Tensor], rows: list[int]) -> dict[int, list]:
    """Hypotheses of ``rows`` decoded as one batch, best first."""
    lengths = torch.tensor([len(clips[row]) for row in rows])
    batch = torch.nn.utils.rnn.pad_sequence([clips[row] for row in rows], batch_first=True)
    sample = {"net_input": {"src_tokens": batch, "src_lengths": lengths}}
    found = generator.generate([model], sample)
    return {row: [x["tokens"].tolist() for x in h] for row, h in zip(rows, found, strict=True)}


def build(search: str, **options):
    """A model whose output differs between clips, and a search for it."""
    model = speech_model(tuple("abcdefghij"), **options)
    torch.manual_seed(3)
    for parameter in model.parameters():  # default-initialised weights give the same for all input
        torch.nn.init.normal_(parameter, std=0.3) if parameter.dim() > 1 else None
    dictionary = model.decoder.dictionary
    if search == "ctc":
        return model, CTCGreedyGenerator([model], dictionary)
    if search == "ctc_beam":
        return model, CTCPrefixBeamGenerator([model], dictionary, beam=4)
    generator = SequenceGenerator([model], dictionary, beam_size=4, max_len_b=25)
    if search == "joint":
        generator.model = JointEnsemble([model], 0.4)
    return model, generator


def check(search: str, clips: list[torch.Tensor], **options) -> None:
    """Check that n-best lists agree for clips alone, in one batch, reversed and in two batches."""
    model, generator = build(search, **options)
    rows = list(range(len(clips)))
    alone = {row: decode(generator, model, clips, [row])[row] for row in rows}
    assert len({tuple(hypotheses[0]) for hypotheses in alone.values()}) > 3
    assert decode(generator, model, clips, rows) == alone
    assert decode(generator, model, clips, rows[::-1]) == alone
    halves = [decode(generator, model, clips, part) for part in (rows[:3], rows[3:])]
    assert halves[0] | halves[1] == alone


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_hypotheses_are_independent_of_batch_size_and_order(search, positions):
    torch.manual_seed(3)
    clips = [torch.randn(length, 80) for length in LENGTHS]
    check(search, clips, encoder_positions=positions)


def batches_of(folder, split: str, workers: int, clips: int) -> list[dict]:
    """The batches of a split as ``fairseq-generate`` iterates over them, with row ids."""
    cfg = SpeechToTextConfig(data=str(folder), decodes_with="a checkpoint", lm_path=None, seed=1)
    task = ManifestSpeechToTextTask(cfg)
    task.load_dataset(split)
    dataset = task.dataset(split)
    iterator = task.get_batch_iterator(
        dataset, max_sentences=clips, max_positions=(6000, 1024), num_workers=workers
    )
    ids = dataset.manifest.column("id")
    batches = list(iterator.next_epoch_itr(shuffle=False))
    return [{**batch, "ids": [ids[row] for row in batch["id"].tolist()]} for batch in batches]


@pytest.mark.real_data
def test_real_speech_is_independent_of_workers_and_batches(real_data, tmp_path):
    files = sorted((real_data / "librispeech" / "LibriSpeech").rglob("*.flac"))[:6]
    rows = []
    for i, file in enumerate(files):
        samples = min(24_000 + 9_600 * i, soundfile.info(file).frames)
        n_frames = num_frames(samples)
        rows.append({"id": f"clip{i}", "audio": f"{file}:0:{samples}", "n_frames": n_frames})
    write_manifest(tmp_path / "forwards.tsv", rows)
    write_manifest(tmp_path / "backwards.tsv", rows[::-1])
    passes = [("forwards", 0, 1), ("forwards", 2, 4), ("backwards", 2, 6)]
    splits = {settings: batches_of(tmp_path, *settings) for settings in passes}
    for search in SEARCHES:
        model, generator = build(search)
        found = {settings: {} for settings in passes}
        for settings, batches in splits.items():
            for batch in batches:
                for name, beam in zip(
                    batch["ids"], generator.generate([model], batch), strict=True
                ):
                    found[settings][name] = [x["tokens"].tolist() for x in beam]
        alone = found[passes[0]]
        assert len({str(hypotheses) for hypotheses in alone.values()}) == len(files) == 6
        for settings in passes:
            assert found[settings] == alone, (search, settings)


@pytest.mark.real_data
@pytest.mark.parametrize("search", SEARCHES)
def test_real_speech_is_independent_of_batch_size_and_order(search, real_data):
    files = sorted((real_data / "librispeech" / "LibriSpeech").rglob("*.flac"))[:6]
    assert len(files) == 6
    features = [
        normalise(read_filterbank(str(file)))[: 150 + 60 * i] for i, file in enumerate(files)
    ]
    check(search, [torch.from_numpy(f) for f in features])
