"""The command line as a whole: help, exit codes, errors, pipes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from llmtune import cli
from llmtune.cli import app as table
from llmtune.errors import GateFailed, LlmtuneError, RecipeError, Stopped


def test_help_names_every_command_in_its_group(llmtune: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = llmtune("--help")
    assert done.returncode == 0
    for name, command in table.COMMANDS.items():
        assert f" {name} " in done.stdout
        assert command.panel in done.stdout
    assert llmtune("-h").stdout == done.stdout


def test_help_imports_no_command() -> None:
    program = """
import sys
from llmtune.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print("LOADED", *[name for name in sys.modules if name.split(".")[0] in {"torch", "transformers", "pydantic", "yaml"}
    or name.startswith("llmtune.cli.") and name != "llmtune.cli.app"], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["LOADED"]


@pytest.mark.parametrize("name", table.COMMANDS)
def test_every_command_of_the_table_is_there_and_has_help(name: str) -> None:
    command = table.load_command(name)
    assert command.name == name
    assert command.help


def test_version(llmtune: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    from llmtune import __version__

    assert llmtune("--version").stdout.strip() == f"llmtune {__version__}"


def test_a_misspelt_command_and_a_misspelt_option(llmtune: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = llmtune("shcema")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean 'schema'" in done.stderr
    done = llmtune("schema", "--otu", "x")
    assert done.returncode == 2
    assert "--otu" in done.stderr


def run_main(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> int:
    """The exit code of `llmtune fail`, a command that raises `error`."""

    def fail() -> None:
        """Fails."""
        raise error

    module = import_module("tests.cli.test_app")
    monkeypatch.setattr(module, "fail", fail, raising=False)
    monkeypatch.setitem(table.COMMANDS, "fail", table.Command("tests.cli.test_app:fail", "Tests", "Fails."))
    with pytest.raises(SystemExit) as left:
        cli.main([*arguments, "fail"])
    return int(left.value.code or 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LlmtuneError("it broke", where="a.yaml:3:4", fix="mend it"), 1),
        (RecipeError("it broke", where="a.yaml:3:4", fix="mend it"), 2),
        (GateFailed("it broke", where="a.yaml:3:4", fix="mend it"), 3),
        (Stopped("it broke", where="a.yaml:3:4", fix="mend it"), 130),
    ],
)
def test_an_error_for_the_user_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: LlmtuneError, code: int
) -> None:
    assert run_main(monkeypatch, error) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "error: a.yaml:3:4: it broke\n  → mend it\n"


def test_an_error_of_ours_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, ZeroDivisionError("a [b] c")) == 70
    told = capsys.readouterr().err
    assert told.startswith("error: ZeroDivisionError: a [b] c\n")
    assert "this is a bug in llmtune" in told
    assert "Traceback" not in told


def test_what_the_system_refuses_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, PermissionError(13, "Permission denied", "/closed/caf\udce9")) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: /closed/caf\\udce9: Permission denied\n  → give yourself the right to it")
    assert run_main(monkeypatch, PermissionError(13, "Failed to open local file 'c.parquet'")) == 1
    assert capsys.readouterr().err == "error: Failed to open local file 'c.parquet'\n"
    assert run_main(monkeypatch, PermissionError(13, "Failed to open local file '\x1b[31mc.parquet'")) == 1
    assert capsys.readouterr().err == "error: Failed to open local file '\\x1b[31mc.parquet'\n"
    assert run_main(monkeypatch, OSError(5, "Input/output error")) == 1
    assert run_main(monkeypatch, OSError(24, "Too many open files")) == 1
    assert capsys.readouterr().err == "error: Input/output error\nerror: Too many open files\n"
    wrapped = RuntimeError("a library cannot read")
    wrapped.__cause__ = PermissionError(13, "Permission denied", "/closed")
    assert run_main(monkeypatch, wrapped) == 1
    assert capsys.readouterr().err.startswith("error: /closed: Permission denied\n")
    assert run_main(monkeypatch, OSError(28, "No space left on device", "/full/re\nport.html")) == 1
    assert capsys.readouterr().err.startswith("error: /full/re\\nport.html: no space left on the disk\n  → make room")
    theirs = LlmtuneError("the endpoint answers: [Errno 28] No space left on device", where="https://host")
    assert run_main(monkeypatch, theirs) == 1
    assert capsys.readouterr().err.startswith("error: https://host: the endpoint answers")
    assert run_main(monkeypatch, PermissionError(1, "Operation not permitted")) == 70
    assert run_main(monkeypatch, FileNotFoundError(2, "No such file or directory", "ours")) == 70


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, ZeroDivisionError("x"), "--debug") == 70
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert "test_app.py" in told


def test_a_module_that_does_not_import_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(table.COMMANDS, "broken", table.Command("llmtune.cli.not_there:run", "Tests", "Is broken."))
    with pytest.raises(SystemExit) as left:
        cli.main(["broken"])
    assert left.value.code == 70
    assert "No module named 'llmtune.cli.not_there'" in capsys.readouterr().err


def test_ctrl_c_leaves_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_main(monkeypatch, KeyboardInterrupt()) == 128 + signal.SIGINT


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m llmtune schema | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert len(done.stdout) == 10
    assert done.stderr == ""


def test_an_unreadable_recipe_folder(llmtune: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = llmtune("validate", tmp_path / "nowhere")
    assert done.returncode == 2
    assert "no such recipe" in done.stderr
