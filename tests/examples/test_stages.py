"""Steps run in parallel, and the order of the demo's trainings."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from examples.demo.run import levels
from examples.demo.systems import Demo, Recogniser, Sizes, ablations
from examples.processes import run_parallel
from examples.stages import config_files, path_override, run_step
from manifests.errors import InputError
from tests.commands import ROOT


def python(code: str, folder, **kwargs) -> None:
    run_step(["python", "-c", code], folder, **kwargs)


def test_steps_run_in_parallel_on_one_thread_each(tmp_path, monkeypatch):
    """Each of two steps waits for a file that the other one writes."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = (
        "import os, pathlib, time\n"
        "mine, other = (pathlib.Path({root!r}) / name for name in {names})\n"
        "mine.write_text(os.environ['OMP_NUM_THREADS'])\n"
        "while not other.exists(): time.sleep(0.01)\n"
    )
    steps = [
        partial(python, code.format(root=str(tmp_path), names=names), tmp_path / f"run{i}")
        for i, names in enumerate((("a.txt", "b.txt"), ("b.txt", "a.txt")))
    ]
    assert run_parallel(steps, 2) == [None, None]
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "b.txt").read_text() == "1"


def test_a_failing_step_stops_the_others_and_keeps_finished_ones(tmp_path):
    endless = "import time\nwhile True: time.sleep(0.05)"
    steps = [
        partial(python, "pass", tmp_path / "done"),
        partial(python, endless, tmp_path / "endless"),
        partial(python, "import time, sys; time.sleep(0.3); sys.exit(3)", tmp_path / "failing"),
        partial(python, "pass", tmp_path / "never"),
    ]
    started = time.monotonic()
    with pytest.raises(InputError, match="exit code 3"):
        run_parallel(steps, 2)
    assert time.monotonic() - started < 60
    assert (tmp_path / "done" / "done.json").is_file()
    assert not (tmp_path / "endless" / "done.json").is_file()
    assert not (tmp_path / "never").exists()
    assert run_parallel([partial(python, "pass", tmp_path / "later")], 2) == [None]
    assert json.loads((tmp_path / "later" / "done.json").read_text())["seconds"] > 0


def test_a_folder_of_a_different_command_or_file_is_rejected(tmp_path):
    source, folder = tmp_path / "source.tsv", tmp_path / "step"
    source.write_text("a")
    nothing = ["python", "-c", "pass"]
    run_step([*nothing, "rate=1", "seed=1"], folder, [source])
    run_step([*nothing, "rate=1", "seed=1"], folder, [source])
    with pytest.raises(InputError, match=r"\(then rate=1, now rate=2\); move it away"):
        run_step([*nothing, "rate=2", "seed=1"], folder, [source])
    with pytest.raises(InputError, match=r"\(now 'text=a b'\)"):
        run_step([*nothing, "rate=1", "seed=1", "text=a b"], folder, [source])
    with pytest.raises(InputError, match=r"\(then rate=1, now --rate 1\)"):
        run_step([*nothing, "seed=1", "--rate", "1"], folder, [source])
    with pytest.raises(InputError, match="different command;"):
        run_step([*nothing, "seed=1", "rate=1"], folder, [source])
    source.write_text("b")
    with pytest.raises(InputError, match=f"{folder} was created from different files"):
        run_step([*nothing, "rate=1", "seed=1"], folder, [source])
    config, trained = tmp_path / "config.yaml", tmp_path / "trained"
    for content in ("lr: 1", "lr: 2"):
        config.write_text(content)
        with pytest.raises(InputError) if content == "lr: 2" else contextlib.nullcontext():
            run_step(nothing, trained, others={"config": [config]})


@pytest.mark.parametrize("start", ["None", "Forked"])
def test_two_processes_do_not_run_one_step(tmp_path, start):
    begun = f"pathlib.Path({str(tmp_path / 'begun')!r}).write_text(str(os.getpid()))"
    (tmp_path / "wait.py").write_text(f"import os, pathlib, time; {begun}; time.sleep(60)")
    wait = ["python", "-m", "wait"]
    code = (
        "from pathlib import Path\n"
        "from examples.forked import Forked\n"
        "from examples.processes import run_parallel\n"
        "from examples.stages import run_step\n"
        f"step = lambda: run_step({wait!r}, Path({str(tmp_path)!r}))\n"
        f"run_parallel([step], 1, start={start})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment) as first:
        while not (tmp_path / "begun").is_file() or not (tmp_path / "begun").read_text():
            assert first.poll() is None
            time.sleep(0.05)
        with pytest.raises(InputError, match=f"another process is writing {tmp_path}"):
            run_step(wait, tmp_path)
        first.kill()  # its command goes on
        first.wait()
        with pytest.raises(InputError, match=f"another process is writing {tmp_path}"):
            run_step(wait, tmp_path)
    os.kill(int((tmp_path / "begun").read_text()), signal.SIGKILL)


def test_files_of_a_config_are_those_that_hydra_composes():
    folder = ROOT / "examples/demo/config"
    found = config_files(folder, "finetuning")
    assert found == [folder / "finetuning.yaml", folder / "recipe/speech_to_text.yaml"]
    with initialize_config_dir(str(ROOT / "examples/finetuning/config"), version_base="1.1"):
        loader = GlobalHydra.instance().config_loader()
        composed = loader.compute_defaults_list("librispeech_100h_free", [], RunMode.RUN)
    names = {entry.config_path for entry in composed.defaults}
    folder = ROOT / "examples/finetuning/config"
    files = config_files(folder, "librispeech_100h_free")
    assert {str(path.relative_to(folder).with_suffix("")) for path in files} == {
        name
        for name in names
        if name and not name.startswith("hydra") and name != "_dummy_empty_config_"
    }


@pytest.mark.parametrize(
    "path",
    [
        "/a/b-1.pt",
        "/user@host/a b%",
        "/a/données (1)/x, y",
        "/a/b's \\'/{c}=[d]",
        "C:\\a b\\",
        '/a/"quoted" 用户/~x#%',
        "null",
    ],
)
def test_hydra_reads_a_path_as_it_is(path):
    word = path_override("model.init_encoder_from", path)
    value = OverridesParser.create().parse_override(word).value()
    assert value == (None if path == "null" else path)
    assert ("'" in word) == any(character in path for character in "(),'{}用")


def test_every_training_runs_once_and_after_its_initial_encoder(tmp_path):
    demo, sizes = Demo(tmp_path, Sizes(), "nl"), Sizes()
    recognisers = ablations("nl", sizes)
    trained: set[tuple] = {(1, None), (2, None)}
    count = 0
    for level in levels(demo, recognisers, [1, 2]):
        new = set()
        for step in level:
            seed, recogniser = step.args[0], step.args[-1]
            if step.func == demo.finetune:
                assert (seed, recogniser.start) in trained
            elif step.func == demo.midtrain:
                assert (seed, recogniser.pretrained) in trained
                new.add((seed, recogniser.midtrained))
            else:
                new.add((seed, recogniser.pretrained))
            count += 1
        assert not new & trained
        trained |= new
    assert count == 2 * (len(recognisers) + 3 + 5)  # 3 objectives, 5 mid-trainings


def test_folder_names_distinguish_recognisers(tmp_path):
    demo = Demo(tmp_path, Sizes(), "nl")
    names = [r.midtrained for r in ablations("nl", Sizes()).values() if r.midtrained]
    assert len(set(names)) == 5
    assert Recogniser(None, "nl").midtrained == "midtrained_nl"
    assert demo.folder(2, "asr_scratch, twice as long").name == "asr_scratch_twice_as_long"
