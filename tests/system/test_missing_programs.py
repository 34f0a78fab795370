"""Tests whose program is missing are skipped by name, and fail by name with CI=true.

One of them: .venv/bin/pytest tests/system/test_missing_programs.py -k terraform
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from operate.google.deployment import ROOT

MODULES = {
    "chromium": "tests/operate/test_page.py",
    "pubsub-emulator": "tests/stand_ins/test_pubsub.py",
    "terraform": "tests/infra/test_terraform.py",
}


def run_without_programs(tests: str, tmp_path: Path, ci: str) -> tuple[int, str]:
    """Run the tests of a module that need a program, where none is installed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "needs", tests],
        env={"PATH": str(tmp_path), "HOME": os.environ["HOME"], "CI": ci},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("program", MODULES)
def test_a_test_without_its_program_is_skipped_by_name(program: str, tmp_path: Path) -> None:
    status, printed = run_without_programs(MODULES[program], tmp_path, ci="")

    assert status == 0, printed
    assert f"{program} is not installed" in printed
    assert "passed" not in printed.splitlines()[-1]


@pytest.mark.parametrize("program", MODULES)
def test_with_ci_a_test_without_its_program_fails_by_name(program: str, tmp_path: Path) -> None:
    status, printed = run_without_programs(MODULES[program], tmp_path, ci="true")

    assert status == 1, printed
    assert f"With CI=true nothing is skipped. {program} is not installed" in printed
    assert "skipped" not in printed.splitlines()[-1]
