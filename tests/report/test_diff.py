from mmpt_fairseq.report.diff import Pair, align, edits_and_rates, worst


def test_words_are_aligned_with_their_edits():
    pairs = align("the red boat is here", "a red big boat here")
    assert pairs == [
        Pair("substitute", "the", "a"),
        Pair("equal", "red", "red"),
        Pair("insert", "", "big"),
        Pair("equal", "boat", "boat"),
        Pair("delete", "is", ""),
        Pair("equal", "here", "here"),
    ]
    text = " ".join(pair.text for pair in pairs)
    assert text == "[the → a] red [+ big] boat [− is] here"


def test_an_empty_hypothesis_deletes_every_word():
    assert [pair.kind for pair in align("one two", "")] == ["delete", "delete"]


def test_worst_utterances_are_sorted_and_exclude_perfect_ones():
    references = ["a b c d", "a b", "a b c", "a"]
    hypotheses = ["a x y d", "x y", "a b c", "b"]
    assert worst(references, hypotheses, 10) == [1, 0, 3]
    assert worst(references, hypotheses, 1) == [1]
    assert edits_and_rates(references, hypotheses).tolist() == [[2, 0.5], [2, 1], [0, 0], [1, 1]]
