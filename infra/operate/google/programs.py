"""Calls gcloud and Terraform."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import IO, Any, Literal

from operate.console import CommandError, UsageError

_DOWNLOADS = {
    "gcloud": "https://cloud.google.com/sdk/docs/install",
    "terraform": "https://developer.hashicorp.com/terraform/install",
}
_SHOWN_WORDS = 4  # of a command that failed
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class ProgramError(CommandError):
    """A program has failed. `output` is what it printed about it."""

    def __init__(self, command: list[str], output: str, *, is_shown: bool) -> None:
        self.output = _COLOURS.sub("", output).strip()
        printed = f"\n{self.output}" if self.output and not is_shown else ""
        super().__init__(f"`{' '.join(command[:_SHOWN_WORDS])} ...` failed.{printed}")


def require(*programs: str) -> None:
    """Check that programs are installed.

    Raises:
        UsageError: one is missing; says where to get it.
    """
    for program in programs:
        if not shutil.which(program):
            raise UsageError(f"{program} is not installed: {_DOWNLOADS[program]}")


def call(
    command: list[str],
    *,
    stdin: bytes | None = None,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Run a command; return what it prints. After Ctrl-C it ends by itself, as with `follow`.

    Raises:
        ProgramError: it failed.
        KeyboardInterrupt: Ctrl-C, after the command has ended.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
        given.write(stdin or b"")
        given.seek(0)
        lines: list[str] = []
        status = follow(command, lines.append, "stdout", env=environ, stdin=given, stderr=errors)
        errors.seek(0)
        printed = "".join(lines)
        if status:
            output = errors.read().decode(errors="replace") or printed
            raise ProgramError(command, output, is_shown=False)
    return printed


def call_shown(command: list[str], *, environ: Mapping[str, str] | None = None) -> None:
    """Run a command that prints to the terminal.

    Raises:
        ProgramError: it failed. Its errors have been printed.
        KeyboardInterrupt: Ctrl-C, after the command has ended by itself.
    """
    errors: list[str] = []

    def print_line(line: str) -> None:
        errors.append(line)
        sys.stderr.write(line)
        sys.stderr.flush()

    if follow(command, print_line, "stderr", env=environ):
        raise ProgramError(command, "".join(errors), is_shown=True)


def follow(
    command: list[str],
    on_line: Callable[[str], None],
    stream: Literal["stderr", "stdout"],
    **options: Any,
) -> int:
    """Run a command, pass each line of one of its streams on, and return its exit status.

    `options` are those of subprocess.Popen. Ctrl-C reaches the command, too. It ends by itself,
    because a killed Terraform leaves its state locked and incomplete.

    Raises:
        KeyboardInterrupt: Ctrl-C, after the command has ended.
    """
    is_interrupted = False
    streams = {"stdin": subprocess.DEVNULL, stream: subprocess.PIPE}
    with subprocess.Popen(command, **streams | options) as process:
        lines: IO[bytes] | None = getattr(process, stream)
        assert lines
        while True:
            try:
                line = lines.readline()
                if not line:
                    process.wait()
                    break
                on_line(line.decode(errors="replace"))
            except KeyboardInterrupt:
                is_interrupted = True
    if is_interrupted:
        raise KeyboardInterrupt
    return int(process.returncode)
