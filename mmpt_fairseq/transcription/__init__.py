"""Transcribing files: features, segments, search, formats; a file in, text out."""

from mmpt_fairseq.transcription.model import SpeechModel, load
from mmpt_fairseq.transcription.transcript import Segment, Transcript, Word

__all__ = ["Segment", "SpeechModel", "Transcript", "Word", "load"]
