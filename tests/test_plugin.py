"""``common.user_dir`` registers the package exactly once, from any working directory."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT, USER_DIR, run, succeeded

CHECK = """
import sys
from argparse import Namespace
{before}
from fairseq import utils
utils.import_user_module(Namespace(user_dir={user_dir!r}))
from fairseq.tasks import TASK_REGISTRY
from fairseq.models import MODEL_REGISTRY
from fairseq.criterions import CRITERION_REGISTRY
names = ("mmpt_av_pretraining", "mmpt_speech_to_text")
assert all(n in TASK_REGISTRY and n in MODEL_REGISTRY for n in names)
assert "mmpt_masked_reconstruction" in CRITERION_REGISTRY
assert "mmpt_contrastive" in CRITERION_REGISTRY
assert "mmpt_label_smoothed_cross_entropy" in CRITERION_REGISTRY
assert "torchaudio" not in sys.modules
import mmpt_fairseq
print("from", mmpt_fairseq.__file__)
"""


def register(user_dir: str, cwd: Path, before: str = "", env: dict | None = None) -> str:
    script = CHECK.format(before=before, user_dir=user_dir)
    return succeeded(run([sys.executable, "-c", script], cwd=cwd, env=env))


def test_register_checkout_by_relative_path():
    assert str(USER_DIR) in register("mmpt_fairseq", ROOT)


def test_register_checkout_by_absolute_path(tmp_path):
    register(str(USER_DIR), tmp_path)


def test_register_installed_package_by_name(tmp_path):
    """As ``pip install`` leaves it: a copy of the package next to fairseq, found by name."""
    site = tmp_path / "site-packages"
    site.mkdir()
    import fairseq

    # A second site folder with fairseq (by link) and a copy of our package.
    (site / "fairseq").symlink_to(Path(fairseq.__file__).parent)
    shutil.copytree(USER_DIR, site / "mmpt_fairseq")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    output = register("mmpt_fairseq", elsewhere, env={"PYTHONPATH": str(site)})
    assert str(site) in output


def test_register_after_import(tmp_path):
    register(
        str(USER_DIR), tmp_path, before=f"sys.path.insert(0, {str(ROOT)!r}); import mmpt_fairseq"
    )


def test_register_after_import_through_a_link(tmp_path):
    """An editable install's link and the checkout it points to are the same package."""
    (tmp_path / "mmpt_fairseq").symlink_to(USER_DIR)
    before = f"sys.path.insert(0, {str(tmp_path)!r}); import mmpt_fairseq"
    register(str(USER_DIR), tmp_path, before=before)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_register_in_a_spawned_process(tmp_path, method):
    """A process that inherits no state registers the plugin itself."""
    script = tmp_path / "spawned.py"
    script.write_text(
        f"""
import multiprocessing as mp
from argparse import Namespace

def child(queue):
    from fairseq import utils
    utils.import_user_module(Namespace(user_dir={str(USER_DIR)!r}))
    from fairseq.tasks import TASK_REGISTRY
    queue.put("mmpt_speech_to_text" in TASK_REGISTRY)

if __name__ == "__main__":
    context = mp.get_context({method!r})
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    assert queue.get(timeout=120) is True
    process.join()
    print("registered")
"""
    )
    assert "registered" in succeeded(run([sys.executable, script], cwd=tmp_path))


def test_torchaudio_is_never_imported():
    for path in [*(ROOT / "mmpt_fairseq").rglob("*.py"), *(ROOT / "manifests").rglob("*.py")]:
        lines = path.read_text(encoding="utf-8").splitlines()
        bad = [x for x in lines if x.lstrip().startswith(("import torchaudio", "from torchaudio"))]
        assert not bad, f"{path}: {bad}"
