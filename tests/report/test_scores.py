import math
import random
from collections import Counter

import pytest
from sacrebleu.metrics import BLEU

from manifests.errors import InputError
from mmpt_fairseq.data.manifest import write_manifest
from mmpt_fairseq.report.intervals import count
from mmpt_fairseq.report.scores import read_hypotheses, score
from mmpt_fairseq.scoring import bleu, error_rates, normalise_text
from mmpt_fairseq.tasks._validation import score_counts


def edits(reference, hypothesis):
    """Levenshtein distance by dynamic programming, row by row."""
    row = list(range(len(hypothesis) + 1))
    for i, a in enumerate(reference, 1):
        previous, row = row, [i]
        for j, b in enumerate(hypothesis, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (a != b)))
    return row[-1]


def sentences(count, seed):
    rng = random.Random(seed)
    return [
        " ".join(rng.choices(["ja", "nein", "doch", "so"], k=rng.randint(1, 9)))
        for _ in range(count)
    ]


def test_error_rates_are_levenshtein_distances():
    references, hypotheses = sentences(40, 1), [*sentences(38, 2), "", "ja"]
    rates = error_rates(references, hypotheses)
    pairs = list(zip(references, hypotheses, strict=True))
    words = sum(edits(r.split(), h.split()) for r, h in pairs)
    letters = sum(edits(r, h) for r, h in pairs)
    assert rates["wer"] == pytest.approx(100 * words / sum(len(r.split()) for r in references))
    assert rates["cer"] == pytest.approx(100 * letters / sum(map(len, references)))
    assert error_rates(references, references) == {"wer": 0.0, "cer": 0.0}


def test_case_and_punctuation_count_but_not_unicode_composition():
    assert error_rates(["Ja, so."], ["ja so"])["wer"] == 100.0
    assert error_rates(["caf\u00e9  so"], [" cafe\u0301 so\n"]) == {"wer": 0.0, "cer": 0.0}
    assert normalise_text(" a\u2028b\tc\u00a0d ") == "a b c d"


def test_an_empty_reference_is_reported_by_number():
    with pytest.raises(InputError, match="reference 2 is empty"):
        error_rates(["a", " \t", "b"], ["a", "x", "b"])


def test_bleu_matches_its_definition():
    references = sentences(60, 3)
    hypotheses = [r.replace("ja nein", "ja").replace("so so", "doch so") for r in references]
    log_precision = 0.0
    for n in range(1, 5):
        matched = total = 0
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            grams = [
                Counter(tuple(s[i : i + n]) for i in range(len(s) - n + 1))
                for s in (reference.split(), hypothesis.split())
            ]
            matched += sum((grams[0] & grams[1]).values())
            total += sum(grams[1].values())
        log_precision += math.log(matched / total) / 4
    lengths = [sum(len(s.split()) for s in side) for side in (references, hypotheses)]
    penalty = min(0.0, 1 - lengths[0] / lengths[1])
    result = bleu(references, hypotheses)
    assert result["bleu"] == pytest.approx(100 * math.exp(log_precision + penalty))
    assert bleu(references, references)["bleu"] == pytest.approx(100)
    assert "tok:13a" in result["signature"]


@pytest.mark.parametrize(
    ("texts", "wrong", "tokenize"),
    [
        (["我们今天去北京看朋友", "他在2020年来过这里"], "我们今天去上海看朋友", "zh"),
        (
            ["今日は友達に会いに行きます", "とても良い天気ですね"],
            "今日は友達に会いに来ます",
            "char",
        ),
        (["วันนี้อากาศดีมากเลย", "เขาไม่ได้มาที่นี่"], "วันนี้อากาศไม่ดีเลย", "char"),
        (["오늘은 날씨가 아주 좋네요", "그는 여기에 오지 않았다"], "오늘은 날씨가 좋네요", "13a"),
    ],
)
def test_bleu_uses_characters_for_scripts_without_spaces(texts, wrong, tokenize):
    """Like sacreBLEU with that tokenizer, for a whole split and for validation in batches."""
    hypotheses = [wrong, texts[1]]
    expected = BLEU(tokenize=tokenize).corpus_score(hypotheses, [texts])
    found = bleu(texts, hypotheses)
    assert found["bleu"] == pytest.approx(expected.score)
    assert f"tok:{tokenize}" in found["signature"]
    assert count(texts, hypotheses, "bleu").value == pytest.approx(expected.score)
    parts = [
        score_counts([r], [h], ["bleu"], tokenize) for r, h in zip(texts, hypotheses, strict=True)
    ]
    assert [sum(p[f"_bleu_{2 + n}"] for p in parts) for n in range(4)] == expected.counts


OUTPUT = """2026-01-01 00:00:00 | INFO | fairseq_cli.generate | {}
T-1\tb
H-1\t-0.5\t\u2581b
D-1\t-0.5\tnein\u2028doch
P-1\t-0.1 -0.2
D-1\t-0.9\tso
D-0\t-1e-05\tja D-2\t0\tnein
D-2\t-0.3\t
2026-01-01 00:00:01 | INFO | done
"""


def test_the_best_hypothesis_of_each_row_is_read_in_row_order(tmp_path):
    path = tmp_path / "generate.txt"
    path.write_text(OUTPUT, encoding="utf-8")
    assert read_hypotheses(path, 3) == ["ja D-2\t0\tnein", "nein\u2028doch", ""]


@pytest.mark.parametrize("rows", [2, 4])
def test_a_missing_or_extra_row_is_rejected(tmp_path, rows):
    path = tmp_path / "generate.txt"
    path.write_text(OUTPUT, encoding="utf-8")
    with pytest.raises(InputError, match=f"3 of {rows} rows"):
        read_hypotheses(path, rows)
    with pytest.raises(InputError, match="no output"):
        read_hypotheses(tmp_path / "none.txt", rows)


def test_a_damaged_output_is_rejected(tmp_path):
    """Truncated in its last hypothesis, a folder, or not UTF-8."""
    path = tmp_path / "generate.txt"
    path.write_text("D-0\t0\tja\nD-1\t0\tnein do")
    with pytest.raises(InputError, match="1 of 2 rows"):
        read_hypotheses(path, 2)
    with pytest.raises(InputError, match=r"give the file generate-SPLIT\.txt"):
        read_hypotheses(tmp_path, 2)
    path.write_bytes(b"D-0\t0\tja\nD-1\t0\tn\xffin\n")
    with pytest.raises(InputError, match="damaged: byte 16 is not valid UTF-8"):
        read_hypotheses(path, 2)


def test_a_split_is_scored_against_its_manifest(tmp_path):
    texts = ["ja so", "nein doch", "so"]
    rows = [
        {"id": i, "audio": "a.wav", "n_frames": 1, "tgt_text": t} for i, t in enumerate(texts, 1)
    ]
    write_manifest(tmp_path / "test.tsv", rows)
    (tmp_path / "out.txt").write_text(
        "D-2\t0\tso\nT-2\tso\nD-0\t0\tja\nT-0\tja\nD-1\t0\tnein doch\n"
    )
    result = score(tmp_path / "test.tsv", tmp_path / "out.txt", "wer")
    assert result == {"wer": pytest.approx(20.0), "cer": pytest.approx(100 * 3 / 16)}
    expected = bleu(texts, ["ja", "nein doch", "so"])
    assert score(tmp_path / "test.tsv", tmp_path / "out.txt", "bleu") == expected


def test_the_output_of_another_split_is_rejected(tmp_path):
    """The number of rows is the same, but fairseq's ``T-`` lines have other texts."""
    rows = [{"id": "a", "audio": "a.wav", "n_frames": 9, "tgt_text": "one two"}]
    write_manifest(tmp_path / "test.tsv", rows)
    output = tmp_path / "generate-test.txt"
    output.write_text("T-0\tone two\nD-0\t-1.0\tone too\n")
    assert score(tmp_path / "test.tsv", output, "wer")["wer"] == 50.0
    output.write_text("T-0\tthree\nD-0\t-1.0\tone too\n")
    with pytest.raises(InputError, match="another manifest"):
        score(tmp_path / "test.tsv", output, "wer")


def test_a_reordered_manifest_is_rejected_although_a_row_is_in_its_place(tmp_path):
    texts = ["one", "two", "three"]
    rows = [{"id": t, "audio": "a.wav", "n_frames": 9, "tgt_text": t} for t in texts]
    write_manifest(tmp_path / "test.tsv", rows)
    output = tmp_path / "generate-test.txt"
    written = enumerate(["one", "three", "two"])
    output.write_text("".join(f"T-{i}\t{text}\nD-{i}\t0\t{text}\n" for i, text in written))
    with pytest.raises(InputError, match="only 1 of 3 texts are those of its rows"):
        score(tmp_path / "test.tsv", output, "wer")
