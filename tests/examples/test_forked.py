"""Commands run in forks of a server behave like those of subprocess.Popen."""

import os
import signal

import pytest

from examples import forked
from examples.forked import Forked


def test_a_command_has_its_own_folder_environment_streams_and_exit_status(tmp_path):
    (tmp_path / "report.py").write_text(
        "import os, sys\n"
        "print(os.getcwd(), os.environ['OWN'], 'OTHER' in os.environ, sys.argv, __name__)\n"
        "sys.stdout.flush()\n"
        "print(sys.stdin.read() == '', file=sys.stderr)\n"
        "sys.exit(3)\n"
    )
    environment = {"OWN": "ä", "PATH": os.environ["PATH"]}
    process = Forked(["python", "-m", "report", "a b"], environment, tmp_path)
    with process.stdout:
        report, empty = process.stdout.read().splitlines()
    assert process.wait() == process.wait() == 3
    assert report == f"{tmp_path} ä False ['{tmp_path / 'report.py'}', 'a b'] __main__"
    assert empty == "True"


def test_concurrent_commands_are_stopped_separately(tmp_path):
    (tmp_path / "endless.py").write_text("print('begun', flush=True)\nwhile True: pass\n")
    processes = [Forked(["python", "-m", "endless"], os.environ, tmp_path) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["begun\n"] * 2
    processes[1].kill()
    assert processes[1].wait() == -9
    processes[0].terminate()
    assert processes[0].wait() == -15
    processes[0].terminate()  # already exited
    for process in processes:
        process.stdout.close()


def test_a_dead_server_is_replaced_and_no_file_descriptor_leaks(tmp_path):
    (tmp_path / "report.py").write_text("import os\nprint(len(os.environ['LONG']))\n")
    environment = {**os.environ, "LONG": "x" * 100_000, "LONGER": "x" * 120_000}

    def report() -> str:
        process = Forked(["python", "-m", "report"], environment, tmp_path)
        with process.stdout:
            text = process.stdout.read()
        assert process.wait() == 0
        return text

    assert report() == "100000\n"
    for server in forked._idle:
        server._process.kill()
        server._process.wait()
    before = len(os.listdir("/proc/self/fd"))
    assert report() == "100000\n"
    assert report() == "100000\n"
    assert len(os.listdir("/proc/self/fd")) <= before


def test_an_interrupted_wait_can_be_repeated(tmp_path):
    """As after Ctrl-C: terminate the command, then wait for it to exit."""
    (tmp_path / "endless.py").write_text("print('begun', flush=True)\nwhile True: pass\n")
    process = Forked(["python", "-m", "endless"], os.environ, tmp_path)
    assert process.stdout.readline() == "begun\n"

    def interrupt(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(KeyboardInterrupt):
        process.wait()
    process.terminate()
    assert process.wait() == -15
    process.stdout.close()
    (tmp_path / "nothing.py").touch()
    again = Forked(["python", "-m", "nothing"], os.environ, tmp_path)
    again.stdout.close()
    assert again.wait() == 0
