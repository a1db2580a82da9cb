"""What counts as an unseen sentence in the real-speech example."""

from examples.mboshi.run import unseen
from mmpt_fairseq.data.manifest import write_manifest


def test_sentences_of_every_stage_count_as_seen(tmp_path):
    """Of three dev sentences one is fine-tuned on, one is only translated, one is new."""
    texts = {
        "asr/train": ["ngá"],
        "asr/valid": ["wa"],
        "st/train": ["ngá", "yé  mωné"],
        "st/valid": ["wa"],
        "asr/dev": ["ngá", "yé mωné", "abia áwoi"],
    }
    for name, sentences in texts.items():
        rows = [
            {"id": i, "audio": "a.ogg", "n_frames": 9, "src_text": text, "tgt_text": text}
            for i, text in enumerate(sentences, 1)
        ]
        write_manifest(tmp_path / f"{name}.tsv", rows)
    output = tmp_path / "generate-dev.txt"
    output.write_text("D-0\t0\tx\nD-1\t0\tx\nD-2\t0\tabia\n")
    assert unseen(tmp_path, output) == {"wer": 50.0, "cer": 100 * 5 / 9, "rows": 1}
