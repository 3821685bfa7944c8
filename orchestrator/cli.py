"""The command line: `--help`, `--version`, and the exit code of every error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from orchestrator import commands
from orchestrator.errors import BadResult, ExitCode, HostUnfit, HostUnreachable, ImageError, InputError


def main(words: Sequence[str] | None = None) -> None:
    """The entry point. An error that the user can fix is one message and exit code 2, never a traceback."""
    code = ExitCode.BAD_INPUT
    try:
        try:
            _run(sys.argv[1:] if words is None else list(words))
            code = ExitCode.OK
        finally:
            sys.stdout.flush()  # a full disk is reported here, not when the interpreter ends
    except InputError as error:
        for problem in error.problems:
            _complain(problem)
    except (HostUnreachable, HostUnfit, ImageError, BadResult) as error:
        _complain(str(error))
    except OSError as error:  # a full disk behind `>`, a folder that was removed
        if isinstance(error, BrokenPipeError) and error.filename is None:
            code = ExitCode.SOME_FAILED  # the reader has gone, as `| head` does: silent, as click is about it
        else:
            _complain(f"{error.filename or 'standard output'}: {error.strerror}")
        stdout = sys.__stdout__
        if error.filename is None and stdout is not None and stdout is sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # else the interpreter's end tries once more
    sys.exit(code)


def _run(words: list[str]) -> None:
    """Runs a command; it exits with its own code. Help, version and the names of commands need no library."""
    if "_ORCHESTRATOR_COMPLETE" in os.environ:
        from orchestrator.commands.completion import complete_verb

        if complete_verb(os.environ):
            return
    elif words in (["-h"], ["--help"]):
        print(commands.page())
        return
    elif words == ["--version"]:
        print(commands.version())
        return
    elif not words:
        print(commands.page(), file=sys.stderr)
        sys.exit(ExitCode.BAD_INPUT)
    from orchestrator.commands.root import program

    program()(words, obj=words, prog_name="orchestrator")


def _complain(problem: str) -> None:
    from orchestrator.terminal.console import console

    console(stderr=True).print(f"error: {problem}", style="red", soft_wrap=True)
