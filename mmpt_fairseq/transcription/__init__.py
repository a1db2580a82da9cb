"""Transcription of files: features, segmentation, search and output formats."""

from mmpt_fairseq.transcription.model import SpeechModel, load
from mmpt_fairseq.transcription.transcript import Segment, Transcript, Word

__all__ = ["Segment", "SpeechModel", "Transcript", "Word", "load"]
