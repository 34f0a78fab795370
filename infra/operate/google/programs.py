"""Calls gcloud and Terraform."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import IO, Literal

from operate.console import CommandError, UsageError

_DOWNLOADS = {
    "gcloud": "https://cloud.google.com/sdk/docs/install",
    "terraform": "https://developer.hashicorp.com/terraform/install",
}
_SHOWN_WORDS = 4  # of a command that failed


class ProgramError(CommandError):
    """A program has failed. `output` is what it printed about it."""

    def __init__(self, command: list[str], output: str, *, is_shown: bool) -> None:
        self.output = output.strip()
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
    """Run a command; return what it prints.

    Raises:
        ProgramError: it failed.
    """
    done = subprocess.run(
        command,
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        env=environ,
        check=False,
    )
    if done.returncode:
        output = (done.stderr or done.stdout or b"").decode(errors="replace")
        raise ProgramError(command, output, is_shown=False)
    return done.stdout.decode()


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

    if follow(command, print_line, environ=environ, stream="stderr"):
        raise ProgramError(command, "".join(errors), is_shown=True)


def follow(
    command: list[str],
    on_line: Callable[[str], None],
    *,
    environ: Mapping[str, str] | None = None,
    stream: Literal["stderr", "stdout"],
) -> int:
    """Run a command, pass each line of one of its streams on, and return its exit status.

    Ctrl-C reaches the command, too. It ends by itself, because a killed Terraform leaves its state
    locked and incomplete.

    Raises:
        KeyboardInterrupt: Ctrl-C, after the command has ended.
    """
    is_interrupted = False
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if stream == "stdout" else None,
        stderr=subprocess.PIPE if stream == "stderr" else None,
        env=environ,
    ) as process:
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
    return process.returncode
