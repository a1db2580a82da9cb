"""Our encoder as an s3prl upstream: copy this folder to ``s3prl/upstream/mmpt/``, see README.md.

s3prl passes a list of clips, 16 kHz mono in [-1, 1], and uses the hidden states of every layer.
"""

import torch
from torch import Tensor, nn

from mmpt_fairseq.data.audio import FRAME_SHIFT, floored_filterbank, normalise
from mmpt_fairseq.models.upstreams import open_upstream
from mmpt_fairseq.modules.masking import padding_mask


class UpstreamExpert(nn.Module):
    """The upstream of a checkpoint of any stage.

    Args:
        ckpt: path of the checkpoint.
        model_config: unused; s3prl passes it to every upstream.
    """

    def __init__(self, ckpt: str, model_config: str | None = None, **kwargs) -> None:
        super().__init__()
        # s3prl itself freezes the upstream, or trains it where the user asks for that.
        self.upstream = open_upstream(ckpt).requires_grad_(True)

    def get_downsample_rates(self, key: str) -> int:
        """Stride of the states in samples."""
        return self.upstream.stride * FRAME_SHIFT

    def forward(self, wavs: list[Tensor]) -> dict[str, Tensor | list[Tensor]]:
        """Clips ``(samples,)`` -> N ``hidden_states`` ``(B, T, D)``, padded with zeros.

        Raises:
            UnreadableClip: a clip is shorter than 25 ms.
        """
        clips = [self._source(wav) for wav in wavs]
        lengths = torch.tensor([len(clip) for clip in clips], device=wavs[0].device)
        source = nn.utils.rnn.pad_sequence(clips, batch_first=True)
        hidden = self.upstream(source, lengths)
        padding = padding_mask(hidden.lengths, hidden.states.size(2))
        states = hidden.states.masked_fill(padding[:, None, :, None], 0.0)
        layers = list(states.unbind(dim=1))
        return {"hidden_states": layers, "last_hidden_state": layers[-1]}

    def _source(self, wav: Tensor) -> Tensor:
        """The upstream's input for one clip: filterbanks as in all stages, or the waveform."""
        if self.upstream.reads == "waveform":
            return wav
        waveform = wav.detach().cpu().numpy().astype("float32")
        features = normalise(floored_filterbank(waveform, "a clip from s3prl"))
        return torch.from_numpy(features).to(wav.device)
