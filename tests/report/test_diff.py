from mmpt_fairseq.report.diff import Pair, align, error_shares, worst


def test_every_word_is_paired_with_what_became_of_it():
    pairs = align("the red boat is here", "a red big boat here")
    assert pairs == [
        Pair("substitute", "the", "a"),
        Pair("equal", "red", "red"),
        Pair("insert", "", "big"),
        Pair("equal", "boat", "boat"),
        Pair("delete", "is", ""),
        Pair("equal", "here", "here"),
    ]
    said = " ".join(pair.text for pair in pairs)
    assert said == "[the → a] red [+ big] boat [− is] here"


def test_nothing_recognised():
    assert [pair.kind for pair in align("one two", "")] == ["delete", "delete"]


def test_the_worst_come_first_and_perfect_ones_never():
    references = ["a b c d", "a b", "a b c", "a"]
    hypotheses = ["a x y d", "x y", "a b c", "b"]
    assert worst(references, hypotheses, 10) == [1, 0, 3]
    assert worst(references, hypotheses, 1) == [1]
    assert error_shares(references, hypotheses).tolist() == [[2, 0.5], [2, 1], [0, 0], [1, 1]]
