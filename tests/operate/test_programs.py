"""Calls of gcloud and Terraform.

One of them: .venv/bin/pytest tests/operate/test_programs.py -k ctrl
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.waiting import wait_for

# Ends one step after Ctrl-C, as Terraform does.
_SLOW = """\
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGINT, lambda *_: (folder / "interrupted").touch())
(folder / "running").touch()
while not (folder / "go-on").exists():
    time.sleep(0.02)
(folder / "ended").touch()
"""

_CALLER = """\
import sys
from operate.google import programs
try:
    getattr(programs, sys.argv[3])([sys.executable, "-c", sys.argv[1], sys.argv[2]])
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("function", ["call", "call_shown"])
def test_ctrl_c_lets_terraform_end_by_itself(tmp_path: Path, function: str) -> None:
    """A Terraform that is killed leaves its state locked and incomplete."""
    caller = subprocess.Popen(
        [sys.executable, "-c", _CALLER, _SLOW, str(tmp_path), function],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    try:
        wait_for((tmp_path / "running").exists)
        os.killpg(caller.pid, signal.SIGINT)
        wait_for((tmp_path / "interrupted").exists)
        os.killpg(caller.pid, signal.SIGINT)
        assert caller.poll() is None
        (tmp_path / "go-on").touch()

        assert caller.wait(30) == 130
        assert (tmp_path / "ended").exists()
    finally:
        caller.kill()
        caller.wait()
