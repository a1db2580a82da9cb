import torch
import torch.nn.functional as F

from mmpt_fairseq.criterions import retrieval
from mmpt_fairseq.criterions.contrastive import ContrastiveCriterion
from mmpt_fairseq.criterions.retrieval import Retrieval, partner_ranks
from mmpt_fairseq.models.av_pretraining import Embeddings
from tests.helpers import av_batch, av_model


def vectors(count, seed=0):
    torch.manual_seed(seed)
    audio = F.normalize(torch.randn(count, 4), dim=-1)
    return audio, F.normalize(audio + 0.6 * torch.randn(count, 4), dim=-1)


def test_recall_is_over_all_clips_independent_of_batching(monkeypatch):
    audio, video = vectors(37)
    expected = {}
    for name, (a, b) in {
        "audio_to_video": (audio, video),
        "video_to_audio": (video, audio),
    }.items():
        ranks = [
            sorted(range(37), key=lambda j: -float(q @ b[j])).index(i) for i, q in enumerate(a)
        ]
        for k in (1, 5):
            expected[f"{name}_recall_{k}"] = sum(rank < k for rank in ranks) / 37
    for sizes, chunk in (([37], 1024), ([5, 20, 12], 8)):
        monkeypatch.setattr(retrieval, "CHUNK", chunk)
        meter = Retrieval()
        for a, v in zip(audio.split(sizes), video.split(sizes), strict=True):
            meter.add(Embeddings(a, v, torch.tensor(0.0)))
        found = meter.recalls()
        assert found.keys() == expected.keys()
        assert all(abs(found[name] - expected[name]) < 1e-6 for name in expected)
    assert 0 < expected["audio_to_video_recall_1"] < expected["audio_to_video_recall_5"] < 1
    meter.reset()
    assert meter.recalls() == {}


def test_identical_embeddings_have_the_worst_rank():
    same = torch.ones(10, 4) / 2
    assert partner_ranks(same, same).tolist() == [9] * 10
    assert partner_ranks(torch.eye(4), torch.eye(4)).tolist() == [0] * 4
    assert partner_ranks(same * torch.nan, same).tolist() == [9] * 10


def test_training_and_dummy_batches_are_not_collected():
    criterion, model = ContrastiveCriterion(None), av_model()
    sample = {"net_input": av_batch(), "nsentences": 2, "ntokens": 83}
    criterion.train()(model, sample)
    criterion.eval()(model, {**sample, "is_dummy": True})
    assert criterion.retrieval.recalls() == {}
    criterion(model, sample)
    assert set(criterion.retrieval.recalls().values()) <= {0.0, 0.5, 1.0}
