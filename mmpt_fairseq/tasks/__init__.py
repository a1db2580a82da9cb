"""Registered tasks; importing this package registers them."""

from mmpt_fairseq.tasks import av_pretraining, speech_to_text, superb

__all__ = ["av_pretraining", "speech_to_text", "superb"]
