"""`make run` on a terminal, as a person sees it.

One of them: .venv/bin/pytest tests/system/test_console.py -k enter
"""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from operate.signed_webhooks import send_signed
from sandbox.processes import free_port
from sandbox.stack import new_secret
from support.commands import Terminal, environment_of
from support.waiting import wait_for

RED, DIM, PLAIN = "\x1b[31m", "\x1b[2m", "\x1b[0m"
CTRL_C = "\x03"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def terminal(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A running `make run`; at the end it is stopped with Ctrl-C."""
    folder = tmp_path_factory.mktemp("run")
    running = Terminal("sandbox.run", PORT=str(port), DATA=str(folder))
    wait_for(lambda: "svix listen" in running.output, "the instructions")

    yield running

    running.type(CTRL_C)
    assert running.close() == 0
    *_, stopping, stopped = running.output.splitlines()
    assert stopping == "Stopping ..."
    assert stopped == f"Stopped. Stored objects remain in {folder}"
    assert "Traceback" not in running.output


def test_enter_makes_a_scan_whose_ids_can_be_pasted(terminal: Terminal) -> None:
    assert "Press Enter for a sample scan." in terminal.output

    terminal.type("\n")

    step = r"resolved.*?(msg_\w{27}) .*?done, 1 item"
    found = wait_for(lambda: re.search(step, terminal.output), "the scan")
    assert f"{DIM}{found[1]} " in terminal.output
    lines = re.sub(r"\x1b\[\d+m", "", terminal.output)
    assert re.search(rf"item +{found[1]} [0-9a-f]{{24}} stored: ", lines)


def test_a_wrong_secret_is_shown_in_red_with_the_setting(terminal: Terminal, port: int) -> None:
    url = f"http://127.0.0.1:{port}/webhook"

    assert send_signed(url, new_secret(), "msg_of_another_endpoint", "{}").status_code == 401

    found = wait_for(
        lambda: re.search(r"(.*msg_of_another.*)\r\n", terminal.output), "the whole refusal"
    )
    refused = found[1]
    assert f"{RED}refused" in refused
    assert "401 signature_mismatch" in refused
    assert refused.endswith(": SIGNING_SECRETS has the secret of another endpoint")


def test_the_instructions_name_the_zone_of_the_times(terminal: Terminal) -> None:
    assert "with its time in UTC; Ctrl-C stops." in terminal.output


def test_a_stop_may_be_asked_for_at_any_moment() -> None:
    """A handler that took the lock of what it interrupts would wait for ever."""
    assert (
        output_of("""
import os, signal, sys
from sandbox.run import StopRequest

stop_request = StopRequest(signal.SIGALRM)

def interrupt(frame, event, _):
    # A signal before each line of the standard library's locks and of this class.
    if event == "line" and frame.f_code.co_filename.endswith(("threading.py", "run.py")):
        os.kill(os.getpid(), signal.SIGALRM)
    return interrupt

sys.settrace(interrupt)
stop_request.wait()
sys.settrace(None)
print("stopped")
""")
        == "stopped\n"
    )


def test_a_stop_is_noted_while_the_main_thread_executes_nothing() -> None:
    """A handler in Python would not run while it waits."""
    assert (
        output_of("""
import signal, sys, threading
from sandbox.run import StopRequest

stop_request = StopRequest(signal.SIGALRM)
main_thread = threading.main_thread().ident

def signal_this_thread():
    while sys._current_frames()[main_thread].f_code is not StopRequest.wait.__code__:
        pass
    signal.pthread_kill(threading.get_ident(), signal.SIGALRM)

threading.Thread(target=signal_this_thread, daemon=True).start()
stop_request.wait()
print("stopped")
""")
        == "stopped\n"
    )


def output_of(program: str) -> str:
    """What a program of Python's prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment_of({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout
