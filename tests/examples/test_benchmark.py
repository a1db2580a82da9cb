import json
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from examples.benchmark import decoding, encoder, finetuning, pipeline, step, timing, waiting
from mmpt_fairseq.models.av_pretraining import AVPretrainingModelConfig
from mmpt_fairseq.modules.conformer import ConformerEncoder
from mmpt_fairseq.modules.vit import Block
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingConfig, AVPretrainingTask
from tests.helpers import av_model, write_clips


def test_pairs_alternate_and_the_warm_up_is_not_counted():
    order, now = [], [0.0]

    def takes(name, durations):
        def run():
            order.append(name)
            now[0] += durations[order.count(name) - 1]

        return run

    first, second = takes("a", [99, 1, 2, 30]), takes("b", [99, 2, 2, 3])
    result = timing.paired(first, second, 3, "", clock=lambda: now[0])
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert (result.first, result.second, result.ratio) == (2, 2, 1.0)


@pytest.mark.parametrize(
    ("dtype", "theirs"), [("float32", ["float32"]), ("bfloat16", ["bfloat16", "float32"])]
)
def test_encoder_prints_every_comparison(dtype, theirs, monkeypatch, capsys):
    sizes = "--layers 1 --dim 16 --ffn-dim 32 --heads 2 --kernel 3 --clips 2 --frames 40 --pairs 1"
    monkeypatch.setattr(sys, "argv", ["encoder", *sizes.split(), "--dtype", dtype])
    encoder.main()
    lines = capsys.readouterr().out.splitlines()[2:]
    expected = [f"fairseq's rel_pos layers, {name}" for name in theirs] + [
        "40% visible",
        "25% visible",
    ]
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start)


def test_pipeline_times_audio_and_video_and_names_a_missing_manifest(monkeypatch, capsys, tmp_path):
    manifest = write_clips(tmp_path, [0.3, 0.5], video=True)
    options = ["--repeats", "1", "--video-num-frames", "4", "--video-size", "32"]
    monkeypatch.setattr(sys, "argv", ["pipeline", str(manifest), *options])
    pipeline.main()
    lines = capsys.readouterr().out.splitlines()
    assert "2 clips of 0.4 s" in lines[0]
    assert [line.split(":")[0] for line in lines[1:]] == ["audio", "video"]
    monkeypatch.setattr(sys, "argv", ["pipeline", str(Path("nowhere.tsv"))])
    with pytest.raises(SystemExit, match=r"there is no manifest nowhere\.tsv"):
        pipeline.main()


SMALL = "--pairs 1 --layers 1 --width 16 --decoder-layers 1 --batch 2 --seconds 0.5 --tokens 4"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_finetuning_prints_every_comparison(dtype, monkeypatch, capsys):
    options = [*SMALL.split(), "--vocabulary", "9", "--dtype", dtype]
    monkeypatch.setattr(sys, "argv", ["finetuning", *options])
    finetuning.main()
    lines = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[2:]]
    single = "fairseq's s2t_conformer in float32, ours without CTC"
    assert (single in lines) == (dtype == "bfloat16")
    assert [line for line in lines if line != single] == [
        "fairseq's s2t_conformer, ours without CTC",
        "encoder free, frozen",
        "encoder free, its states stored",
    ]


def test_decoding_prints_every_system(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["decoding", *SMALL.split(), "--vocabulary", "9"])
    decoding.main()
    systems = json.loads(capsys.readouterr().out)["systems"]
    assert systems[decoding.REFERENCE]["relative"] == 1.0
    assert {"ours, encoder alone", "ours, CTC greedy"} < systems.keys()


def multiply_adds(module: torch.nn.Module, *args) -> float:
    """Multiply-adds of a forward pass as torch counts them, with attention as two products."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(*args)
    return counter.get_total_flops() / 2


def test_multiplications_without_mask_are_those_that_torch_counts():
    clips, tokens, dim = 2, 20, 16
    conformer = ConformerEncoder(dim, 1, 2, 32, 7, dropout=0.0)
    x, positions = torch.randn(clips, tokens, dim), torch.arange(tokens).expand(clips, -1)
    expected = clips * step.conformer_layer(dim, 32, 7, tokens, tokens)
    assert multiply_adds(conformer.layers[0], x, None, positions) == expected
    assert multiply_adds(Block(dim, 2), x) == clips * step.transformer_block(dim, tokens)
    front = step.subsampling(dim, tokens)
    features, lengths = torch.randn(clips, 4 * tokens, 80), torch.full((clips,), 4 * tokens)
    assert multiply_adds(conformer.subsample, features, lengths) == clips * (
        front.first + front.rest
    )
    assert front.flops == 4 * front.first + 6 * front.rest


def test_utilisation_is_relative_to_the_rate_of_matrix_products():
    sizes = {"encoder_embed_dim": 16, "encoder_layers": 1, "encoder_ffn_embed_dim": 32}
    sizes |= {"decoder_embed_dim": 16, "decoder_layers": 1, "decoder_attention_heads": 2}
    cfg = AVPretrainingModelConfig(**sizes, video_layers=1, video_embed_dim=16)
    cfg.video_attention_heads = 2
    fraction, rate, result = step.utilisation(cfg, 2, 40, pairs=1, clock=timing.time.perf_counter)
    flops = 2 * step.necessary(cfg, 40, masked=6).flops
    assert fraction == pytest.approx(flops / result.ratio / result.second / rate)
    assert 0 < fraction < 1


def test_step_prints_its_settings(monkeypatch, capsys):
    options = "--layers 1 --clips 1 --frames 40 --pairs 1 --cpu-time"
    monkeypatch.setattr(sys, "argv", ["step", *options.split()])
    step.main()
    assert "base with 1 layers, 1 x 40 frames" in capsys.readouterr().out


def test_waiting_time_is_part_of_the_total(tmp_path):
    data = write_clips(tmp_path, [0.3, 0.4, 0.5, 0.6], video=True).parent
    settings = {"seed": 1, "train_subset": "train", "decodes_with": None}
    settings |= {"tensorboard_logdir": None, "distributed_world_size": 1}
    task = AVPretrainingTask(
        AVPretrainingConfig(data=str(data), video_num_frames=4, video_size=16, **settings)
    )
    model = av_model()
    task.patch_grid = model.video_encoder.patches.grid
    task.load_dataset("train")
    waited, total = waiting.times(task, model, updates=2, workers=0, tokens=200)
    assert 0 < waited < total
