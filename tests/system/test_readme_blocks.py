"""The README followed to the letter: its blocks of shell commands, in a copy of the tree.

One of them: .venv/bin/pytest tests/system/test_readme_blocks.py -k hand
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from operate.google.deployment import ROOT
from sandbox.processes import STOP_SECONDS, Process, free_port
from support.waiting import wait_for

README = (ROOT / "README.md").read_text()

# Every block of the README by its first line, in its order: the name of the test that runs it, or
# why none does.
BLOCKS = {
    "cp .env.example .env": "needs a phone, an account of Dimmy's and the Svix CLI",
    ". .venv/bin/activate": "test_by_hand_an_event_becomes_an_item",
    "python - <<'END'": "test_by_hand_an_event_becomes_an_item",
    "make bootstrap ENV=prod PROJECT=my-project": (
        "needs a project; test_google_cloud.py runs its commands on a stand-in"
    ),
}
ITEM = '{"_id":"67c861de20bb29fb40d2cbbd","flow_id":"Inbound"}'
# Without the settings of the developer who runs the tests.
ENVIRONMENT = {n: value for n, value in os.environ.items() if n in {"PATH", "HOME", "LANG"}}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, with the environment that runs the tests."""
    tree = tmp_path_factory.mktemp("tree")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    (tree / ".venv").mkdir()
    (tree / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    return tree


class Shell:
    """A shell that is fed blocks of commands, as if they were pasted into a terminal."""

    def __init__(self, folder: Path) -> None:
        self.output = ""
        # -m: background commands become jobs, which `kill %1` ends, as in a terminal.
        self._popen = subprocess.Popen(
            ["bash", "-m"],
            cwd=folder,
            env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._pasted = 0

    def paste(self, block: str) -> None:
        """Run a block, and return when its last command has ended, which must have succeeded."""
        self._pasted += 1
        end = f"the end of block {self._pasted}: "
        self._write(f"{block}echo '{end}'$?\n")
        wait_for(lambda: end in self.output or not self.processes(), end)
        assert f"{end}0" in self.output, self.output

    def end(self) -> None:
        self._write("exit\n")
        self._popen.wait(STOP_SECONDS)

    def processes(self) -> Sequence[psutil.Process]:
        """The running processes of the shell's session, which include its jobs."""
        return [each for each in psutil.process_iter() if _session(each) == self._popen.pid]

    def stop(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self._popen.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream:
                stream.close()

    def _write(self, text: str) -> None:
        assert self._popen.stdin
        self._popen.stdin.write(text)
        self._popen.stdin.flush()

    def _read(self) -> None:
        assert self._popen.stdout
        for line in self._popen.stdout:
            self.output += line


def _session(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        if process.status() != psutil.STATUS_ZOMBIE:
            return os.getsid(process.pid)
    return None


@pytest.fixture
def shell(tree: Path) -> Iterator[Shell]:
    started = Shell(tree)
    yield started
    started.stop()


def test_every_block_is_run_or_has_a_reason() -> None:
    fences = re.findall(r"^```(\w*)$", README, re.MULTILINE)
    names = [line.partition("(")[0] for line in Path(__file__).read_text().splitlines()]

    assert set(fences) == {"", "sh", "text"}, "there is another kind of block"
    assert [block.splitlines()[0] for block in blocks("sh")] == list(BLOCKS)
    for test_or_reason in BLOCKS.values():
        assert f"def {test_or_reason}" in names or test_or_reason.startswith("needs ")


def test_by_hand_an_event_becomes_an_item(shell: Shell, tree: Path) -> None:
    """On free ports. Nothing is left running by the commands themselves."""
    start, send = (
        block for block in blocks("sh") if "test_by_hand" in BLOCKS[block.splitlines()[0]]
    )
    ports = {port: str(free_port()) for port in ("8080", "8081", "8085")}
    for written, port in ports.items():
        assert written in start
        start, send = (re.sub(rf"\b{written}\b", port, block) for block in (start, send))

    shell.paste(start)
    wait_for(lambda: all(map(_accepts, ports.values())), "both functions and the emulator")
    shell.paste(send)
    shell.end()

    assert "<Response [204]>" in shell.output
    assert ITEM in shell.output
    assert "Traceback" not in shell.output
    assert (tree / ".data/by-hand/events/msg_1.json").exists()
    wait_for(lambda: not shell.processes(), "the end of the jobs")


def _accepts(port: str) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", int(port))) == 0


def test_the_demo_prints_what_the_readme_shows(tree: Path) -> None:
    """Apart from times, ids of events and the name of its folder."""
    demo = Process(
        [sys.executable, "-m", "sandbox.demo"],
        ENVIRONMENT | {"PYTHONPATH": "function:infra:tests", "PYTHONUNBUFFERED": "1"},
        folder=tree,
    )
    try:
        assert demo.wait(120) == 0, "\n".join(demo.lines)
    finally:
        demo.stop()

    (shown,) = blocks("text")
    printed = [_without_variable_parts(line) for line in demo.lines]
    for line in shown.splitlines():
        beginning = _without_variable_parts(line.removesuffix(" ..."))
        matches = str.startswith if line.endswith(" ...") else str.__eq__
        assert any(matches(each, beginning) for each in printed), line


def _without_variable_parts(line: str) -> str:
    line = re.sub(r"^\d\d:\d\d:\d\d\.\d{3}|\(\d+\.\d ms\)", "TIME", line)
    return re.sub(r"msg_\w{27}\b|demo-\w{8}/", "NAME", line)
