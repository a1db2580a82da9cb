"""Character error rate for fairseq's ``--scoring cer``."""

from dataclasses import dataclass

from fairseq.dataclass import FairseqDataclass
from fairseq.scoring import BaseScorer, register_scorer

from mmpt_fairseq.report.scores import error_rates


@dataclass
class CerScorerConfig(FairseqDataclass):
    """Nothing to set: the text is scored as ``mmpt_fairseq.report.scores`` does."""


@register_scorer("cer", dataclass=CerScorerConfig)
class CerScorer(BaseScorer):
    """jiwer's CER in percent over all characters; NFC and single spaces, nothing else."""

    def score(self) -> float:
        """In percent; 0 where nothing was added."""
        return error_rates(self.ref, self.pred)["cer"] if self.ref else 0.0

    def result_string(self) -> str:
        return f"CER: {self.score():.2f}"
