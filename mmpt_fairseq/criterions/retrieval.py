"""Retrieval among all clips of a validation set: is a clip's partner among the nearest?"""

import torch
from torch import Tensor

from mmpt_fairseq.models.av_pretraining import Embeddings
from mmpt_fairseq.modules.distributed import gather_from_all_processes

CHUNK = 1024  # rows of the similarities that are held at a time


class Retrieval:
    """Collects the embeddings of a validation set, batch by batch."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was collected."""
        self._audio: list[Tensor] = []
        self._video: list[Tensor] = []

    def add(self, embeddings: Embeddings, is_dummy: bool = False) -> None:
        """One batch's pairs; none of a dummy, which lets a process without a batch take part."""
        rows = 0 if is_dummy else len(embeddings.audio)
        self._audio.append(embeddings.audio[:rows].detach())
        self._video.append(embeddings.video[:rows].detach())

    def recalls(self) -> dict[str, float]:
        """Recall at 1 and 5 in both directions over the pairs of all processes.

        Every process must ask; empty where nothing was collected anywhere.
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
    """How many other candidates are at least as similar to each query as its own: ``(N,)``.

    Ties count against the model, or one that embeds all clips alike would find every partner.

    Args:
        queries, candidates: unit vectors ``(N, D)``; partners have the same row.
    """
    ranks = []
    for start in range(0, len(queries), CHUNK):
        similarity = queries[start : start + CHUNK] @ candidates.t()
        own = similarity.diagonal(start)[:, None]
        ranks.append((~(similarity < own)).sum(1) - 1)  # what is no number too
    return torch.cat(ranks)
