"""Audio-video retrieval among all clips of a validation set."""

import torch
from torch import Tensor

from mmpt_fairseq.models.av_pretraining import Embeddings
from mmpt_fairseq.modules.distributed import gather_from_all_processes

CHUNK = 1024  # rows of the similarity matrix computed at a time


class Retrieval:
    """Collects the embeddings of a validation set, batch by batch."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Discard the collected embeddings."""
        self._audio: list[Tensor] = []
        self._video: list[Tensor] = []

    def add(self, embeddings: Embeddings, is_dummy: bool = False) -> None:
        """Add a batch. A dummy batch, which a process without data gets, adds nothing."""
        rows = 0 if is_dummy else len(embeddings.audio)
        self._audio.append(embeddings.audio[:rows].detach())
        self._video.append(embeddings.video[:rows].detach())

    def recalls(self) -> dict[str, float]:
        """Recall at 1 and 5 in both directions over the pairs of all processes.

        All processes must call this. Empty if there are no pairs.
        """
        if not self._audio:
            return {}
        audio, video = (
            gather_from_all_processes(part, len(part))[0]
            for part in (torch.cat(self._audio), torch.cat(self._video))
        )
        if not len(audio):
            return {}
        return {
            f"{name}_recall_{k}": float((ranks < k).float().mean())
            for name, ranks in (
                ("audio_to_video", partner_ranks(audio, video)),
                ("video_to_audio", partner_ranks(video, audio)),
            )
            for k in (1, 5)
        }


def partner_ranks(queries: Tensor, candidates: Tensor) -> Tensor:
    """Rank of each query's partner, ``(N,)``: number of other candidates at least as similar.

    Ties count against the model; otherwise identical embeddings would give perfect recall.

    Args:
        queries, candidates: unit vectors ``(N, D)``; partners have the same row.
    """
    ranks = []
    for start in range(0, len(queries), CHUNK):
        similarity = queries[start : start + CHUNK] @ candidates.t()
        own = similarity.diagonal(start)[:, None]
        ranks.append((~(similarity < own)).sum(1) - 1)  # counts NaN too
    return torch.cat(ranks)
