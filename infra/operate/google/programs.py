"""Calls gcloud and Terraform."""

import shutil
import subprocess
from collections.abc import Mapping

from operate.console import CommandError, UsageError

_DOWNLOADS = {
    "gcloud": "https://cloud.google.com/sdk/docs/install",
    "terraform": "https://developer.hashicorp.com/terraform/install",
}
_SHOWN_WORDS = 4  # of a command that failed


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
    shown: bool = False,
) -> str:
    """Run a command; return what it prints. With `shown` it prints to the terminal instead.

    Raises:
        CommandError: it failed.
    """
    done = subprocess.run(
        command,
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=not shown,
        env=environ,
        check=False,
    )
    if done.returncode:
        output = (done.stderr or done.stdout or b"").decode(errors="replace").strip()
        printed = f"\n{output}" if output else ""
        raise CommandError(f"`{' '.join(command[:_SHOWN_WORDS])} ...` failed.{printed}")
    return "" if shown else done.stdout.decode()
