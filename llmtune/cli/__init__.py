"""The command line: parse, call, show. `llmtune.cli.app` holds the table of commands; nothing here imports torch."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import NoReturn

BUG_EXIT = 70  # EX_SOFTWARE of sysexits.h
NO_MEMORY = "the command itself ran out of memory\n  → give it more (`ulimit -v`, the container's limit)"


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code.

    A LlmtuneError becomes one message on stderr and its `exit_code`; anything unexpected one line and 70; `--debug`
    shows the traceback of either. Ctrl-C leaves with 130, a reader that closed the pipe quietly with 1.
    """
    debug: list[bool] = []
    try:
        from llmtune.cli.app import build_app

        build_app(debug)(arguments, prog_name="llmtune")
    except SystemExit as leaving:
        _leave(leaving.code)
    except KeyboardInterrupt:
        _leave(130)
    except BrokenPipeError:
        _leave(1)
    except Exception as error:
        try:
            _leave(_show(error, with_traceback=bool(debug)))
        except (MemoryError, ImportError, OSError, SystemError) as second:
            if not isinstance(second, OSError) or second.errno == errno.ENOMEM:  # no memory for the message either
                sys.stderr.write(f"error: {NO_MEMORY}\n")
            _leave(getattr(error, "exit_code", 1))  # else nobody can read it
    _leave(0)


def _show(error: Exception, with_traceback: bool) -> int:
    """Print one error for the person; returns the exit code."""
    from rich.console import Console
    from rich.text import Text

    from llmtune.errors import LlmtuneError
    from llmtune.run.process import is_out_of_memory, refused

    if with_traceback:
        traceback.print_exception(error)
    message, code = f"{type(error).__name__}: {error}", BUG_EXIT
    if not isinstance(error, LlmtuneError):
        error = refused(error) or error
    if isinstance(error, LlmtuneError):
        message, code = str(error), error.exit_code
    elif is_out_of_memory(error):
        message, code = NO_MEMORY, 1
    elif not with_traceback:
        message += "\n  → this is a bug in llmtune; run again as `llmtune --debug …` to see where"
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), message))
    return code


def _leave(code: int | str | None) -> NoReturn:
    """Exit after flushing; a closed pipe found only now is as quiet as one found earlier."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or 1
    sys.exit(code)
