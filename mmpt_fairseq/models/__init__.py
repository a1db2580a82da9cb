"""Registered models; importing this package registers them."""

from mmpt_fairseq.models import av_pretraining, speech_to_text, superb

__all__ = ["av_pretraining", "speech_to_text", "superb"]
