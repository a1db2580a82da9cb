"""Commands in READMEs and module docstrings have arguments that our programs accept."""

import argparse
import ast
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec

import pytest

from tests.commands import ROOT

# Some modules are already imported here, unlike in a separate process.
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
PACKAGES = ("examples", "manifests", "mmpt_fairseq")
OURS = re.compile(rf"(?:python -m ((?:{'|'.join(PACKAGES)})[\w.]*)|(mmpt-\w+))((?: .*)?)$")
PLACEHOLDERS = {"manifests.CORPUS": "manifests.librispeech", "manifests.": "manifests.librispeech"}


class Parsed(Exception):
    """Raised once arguments have been parsed, to end the command."""


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """Programs and arguments in the code blocks, indented lines and inline code of a text."""
    text = text.replace("\\\n", " ")
    lines = re.findall(r"^(?: {4,})?((?:python -m|mmpt-).*)$", text, flags=re.MULTILINE)
    lines += [" ".join(piece.split()) for piece in re.findall(r"`([^`]+)`", text)]
    found = []
    for line in lines:
        match = OURS.match(re.split(r" #| \||, then| [<>]", line)[0])
        if match:
            words = shlex.split(re.sub(r"[\[\]]|\.\.\.", "", match[3]))
            words = ["1" if re.fullmatch("[A-Z]", word) else word.split("|")[0] for word in words]
            found.append((PLACEHOLDERS.get(match[1], match[1]) or match[2], words))
    return found


def documented_commands() -> list:
    texts = {path: path.read_text(encoding="utf-8") for path in ROOT.glob("*.md")}
    for package in PACKAGES:
        for path in (ROOT / package).glob("**/*.md"):
            texts[path] = path.read_text(encoding="utf-8")
        for path in (ROOT / package).glob("**/*.py"):
            texts[path] = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    commands = {
        shlex.join([p, *words]): (p, words)
        for text in texts.values()
        for p, words in commands_in(text)
    }
    return [pytest.param(*command, id=name) for name, command in sorted(commands.items())]


def raising_parsed(method: Callable) -> Callable:
    """Wrap a method of argparse's parser to raise :class:`Parsed` with what it would return."""

    def parse(*args, **kwargs):
        arguments = method(*args, **kwargs)
        if sys._getframe(1).f_globals["__name__"] == "argparse":  # called by the other method
            return arguments
        raise Parsed(arguments)

    return parse


@pytest.fixture
def parse_only(monkeypatch):
    """End commands after parsing their arguments."""
    for name in ("parse_args", "parse_known_args"):
        method = getattr(argparse.ArgumentParser, name)
        monkeypatch.setattr(argparse.ArgumentParser, name, raising_parsed(method))


def start(program: str, arguments: list[str], monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    scripts = entry_points(group="console_scripts")
    if program in scripts.names:
        scripts[program].load()()
    else:
        runpy.run_module(program, run_name="__main__")


@pytest.mark.parametrize(("program", "arguments"), documented_commands())
def test_documented_arguments_are_accepted(program, arguments, parse_only, monkeypatch):
    if not arguments:  # only mentioned
        assert program.startswith("mmpt-") or find_spec(program)
        return
    with pytest.raises(Parsed):
        start(program, arguments, monkeypatch)


def test_a_wrong_argument_is_detected(parse_only, monkeypatch, capsys):
    text = (
        "say\n\n    python -m mmpt_fairseq.average RUN --output FILE --best 5 --bset 5   # wrong\n"
    )
    (command,) = commands_in(text)
    with pytest.raises(SystemExit):
        start(*command, monkeypatch)
    assert "--bset" in capsys.readouterr().err
