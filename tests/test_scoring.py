import jiwer
import pytest

from mmpt_fairseq.scoring import CerScorer, CerScorerConfig


def test_cer_normalises_to_nfc_and_single_spaces():
    scorer = CerScorer(CerScorerConfig())
    pairs = [("un été", "un  éte\u0301"), ("deux mots", "deux maux ici")]
    for reference, hypothesis in pairs:
        scorer.add_string(reference, hypothesis)
    # "éte\u0301" is "été" once composed.
    expected = 100 * jiwer.cer(["un été", "deux mots"], ["un été", "deux maux ici"])
    assert scorer.score() == pytest.approx(expected)
    assert scorer.result_string() == f"CER: {expected:.2f}"


def test_hypothesis_of_an_empty_reference_counts_as_insertions():
    scorer = CerScorer(CerScorerConfig())
    assert scorer.score() == 0
    scorer.add_string(" ", "ab")
    assert scorer.score() == 0
    scorer.add_string("drei", "drei")
    assert scorer.score() == pytest.approx(100 * 2 / 4)
