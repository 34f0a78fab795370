"""Programs that some tests need.

If a program is missing, its tests are skipped, and the summary of the run names the program. With
CI=true the tests fail instead, because CI must run all of them.
"""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from operate.google.deployment import MODULE, ROOT
from sandbox.google_pubsub import find_emulator


@dataclass(frozen=True)
class Program:
    """A program, and how to install it."""

    is_installed: Callable[[], bool]
    installation: str


CHECKOV = ROOT / ".venv" / "checkov" / "bin" / "checkov"

PROGRAMS = {
    "checkov": Program(CHECKOV.exists, "make test"),
    "chromium": Program(
        lambda: all(map(shutil.which, ("chromium", "chromedriver"))),
        "apt install chromium chromium-driver",
    ),
    "gcloud": Program(
        lambda: shutil.which("gcloud") is not None, "https://cloud.google.com/sdk/docs/install"
    ),
    "pubsub-emulator": Program(
        lambda: find_emulator() is not None,
        "gcloud components install pubsub-emulator (and Java)",
    ),
    "setpriv": Program(lambda: shutil.which("setpriv") is not None, "util-linux, on Linux only"),
    "terraform": Program(
        lambda: shutil.which("terraform") is not None,
        "https://developer.hashicorp.com/terraform/install",
    ),
}


GOOGLE_PROVIDER = "Google's provider of Terraform"


@functools.cache
def finds_google_provider() -> bool:
    """Whether `terraform init` can install Google's provider, from its registry or a mirror."""
    if shutil.which("terraform") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(MODULE / "versions.tf", folder)
        done = subprocess.run(
            ["terraform", f"-chdir={folder}", "init", "-input=false"],
            capture_output=True,
            check=False,
        )
    return done.returncode == 0


def needs(program: str) -> pytest.MarkDecorator:
    """Mark a test that needs a program of PROGRAMS."""
    assert program in PROGRAMS
    return pytest.mark.needs(program)


def missing_program(item: pytest.Item) -> str:
    """The missing program of a test, with its installation; empty if none is missing."""
    for mark in item.iter_markers("needs"):
        program = PROGRAMS[mark.args[0]]
        if not program.is_installed():
            return f"{mark.args[0]} is not installed: {program.installation}"
    return ""


def skip_or_fail(item: pytest.Item) -> None:
    """Skip a test whose program is missing; with CI=true fail it."""
    if missing := missing_program(item):
        if os.environ.get("CI") == "true":
            pytest.fail(f"With CI=true nothing is skipped. {missing}", pytrace=False)
        pytest.skip(missing)
