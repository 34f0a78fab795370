"""`make run`: runs the pipeline on this machine, for `svix listen` and a real phone.

Settings come from .env (.env.example describes them) and from the environment, which takes
precedence. Exit status 0 after Ctrl-C; 2 when it could not start.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from operate.console import UsageError, open_console
from operate.ports import read_port
from sandbox.env_file import read_env_file
from sandbox.environment import (
    DEFAULT_PORT,
    ENV_FILE,
    announce,
    claim,
    data_folder,
    read_settings,
    real_api,
)
from sandbox.google_pubsub import MissingEmulatorError
from sandbox.journal import Journal
from sandbox.log_file import LogFile
from sandbox.processes import StartError
from sandbox.proxies import describe_proxy, never_use_for_loopback
from sandbox.pubsub_file import QueueFileError
from sandbox.sample_scans import SampleScans
from sandbox.stack import Stack, new_secret, pubsub_kind, start_stack
from sandbox.svix_sender import new_message
from sandbox.warehouse import WarehouseError

_START_ERRORS = (
    UsageError,
    ValueError,
    MissingEmulatorError,
    StartError,
    WarehouseError,
    QueueFileError,
)
_KEY_SECONDS = 0.2
FUNCTION_SETTINGS = (
    "ALLOWED_SOURCES",
    "TRUSTED_PROXY_HOPS",
    "DIMMY_CONCURRENCY",
    "DIMMY_TIMEOUT_SECONDS",
    "ATTEMPT_SECONDS",
    "PHOTO_HOSTS",
)


def main() -> int:
    never_use_for_loopback()
    settings = read_settings()
    folder = data_folder(settings)
    journal = Journal(open_console(), folder)
    log_file = LogFile(folder)
    stop_request = StopRequest(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def on_log(function: str, fields: dict[str, Any]) -> None:
        log_file.add(function, fields)
        journal.log(function, fields)

    try:
        port = read_port(settings, "PORT", DEFAULT_PORT)
        api = real_api(settings)
        secrets = _secrets(settings)
        kind = pubsub_kind(settings)
        for line in read_env_file(ENV_FILE).describe():
            journal.print_text(line)
        journal.print_text("Starting ...")
        with claim(folder):
            log_file.prepare()
            scans = None if api else SampleScans(folder)
            with start_stack(
                folder,
                pubsub=kind,
                port=port,
                api=(api.url, api.key) if api else None,
                secrets=secrets,
                settings={name: settings[name] for name in FUNCTION_SETTINGS if settings.get(name)},
                # Google's emulator loses messages if the subscription has a backoff.
                backoff_seconds=None if kind == "google" else (1.0, 60.0),
                max_delivery_attempts=20,
                warehouse=True,
                photos=api is None or settings.get("PHOTOS") == "archive",
                keeps_messages=True,
                own_api=scans.api if scans else None,
                on_log=on_log,
            ) as stack:
                _print_instructions(stack, journal)
                with announce(stack.running, folder), _scan_on_enter(stack, scans, journal):
                    stop_request.wait()
                journal.print_text("\nStopping ...")
    except _START_ERRORS as error:
        journal.print_text(str(error), "red")
        return 2
    journal.print_text(f"Stopped. Stored objects remain in {folder}")
    return 0


class StopRequest:
    """One of these signals, which may arrive at any moment and in any thread.

    The interpreter writes it into a pipe when it arrives. A handler in Python would run only once
    the main thread executes its next instruction: never, for a signal that arrives when `wait` is
    just about to read.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._read, write = os.pipe()
        os.set_blocking(write, False)  # as set_wakeup_fd demands
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: None)  # only signals with a handler are written

    def wait(self) -> None:
        """Return once a signal has arrived, also before this call."""
        os.read(self._read, 1)


def _secrets(settings: Mapping[str, str]) -> tuple[str, ...]:
    text = settings.get("SIGNING_SECRETS", "")
    if secrets := tuple(text.replace(",", " ").split()):
        return secrets
    if text:
        raise UsageError("SIGNING_SECRETS contains no secret: write whsec_..., or leave it out.")
    if settings.get("DIMMY_API_KEY"):
        raise UsageError(
            "SIGNING_SECRETS is missing: copy the signing secret of your endpoint (whsec_...) from"
            " Dimmy's webhook dashboard into .env."
        )
    return (new_secret(),)


def _print_instructions(stack: Stack, journal: Journal) -> None:
    url = f"http://localhost:{stack.receive.port}/webhook"
    show = journal.print_text
    zone = datetime.now().astimezone().tzname()
    show(
        "\nUp. Each event and each item is printed below as it arrives, with its time in"
        f" {zone}; Ctrl-C stops.\n",
        "bold",
    )
    show(f"  Webhooks   {url}")
    show(f"  Items      {stack.folder}/items/")
    show(f"  Receipts   {stack.folder}/events/")
    if stack.archive:
        show(f"  Photos     {stack.folder}/photos/")
    show("  Browser    make view, in another terminal")
    show('  Tables     make sql QUERY="SELECT * FROM items LIMIT 10", in another terminal')
    api_url = stack.api.url if stack.api else stack.resolve.settings["DIMMY_API_URL"]
    proxy = describe_proxy(api_url)
    show(f"  Dimmy      {api_url}{f', through the proxy {proxy}' if proxy else ''}")
    if stack.api:
        show(
            "\nDIMMY_API_KEY is not set, so items come from the sandbox's own Dimmy API, which does"
            " not have the scans of a real phone."
        )
    if stack.api and sys.stdin.isatty():
        show("Press Enter for a sample scan.")
    elif sys.stdin.isatty():
        show("Enter makes no sample scan, because items come from the real Dimmy API.")
    show("\nFor a real phone, in another terminal:")
    show(f"  svix listen {url}")
    if stack.api:
        show(
            "Add the URL that it prints as an endpoint in Dimmy's webhook dashboard (Account &"
            " Limits), for items.scanned. Copy the endpoint's signing secret into .env as"
            " SIGNING_SECRETS and an API key as DIMMY_API_KEY (.env.example describes them), and"
            " start again."
        )
    show("")


@contextlib.contextmanager
def _scan_on_enter(stack: Stack, scans: SampleScans | None, journal: Journal) -> Iterator[None]:
    """Send a sample scan on each Enter, if there is a terminal and the API is the sandbox's.

    The thread ends with the context: one that waits for a key while Python exits keeps
    DuckDB's objects alive, and sixty lines about leaks are printed.
    """
    if not (scans and sys.stdin.isatty()):
        yield
        return
    stopped = threading.Event()

    def scan() -> None:
        message = new_message({"item_ids": [scans.add()]})
        journal.sent(message, "items.scanned, 1 item")
        journal.answered(message, stack.attempt(message))

    def scan_on_each_line() -> None:
        keyboard = sys.stdin.fileno()
        while not stopped.is_set():
            if select.select([keyboard], [], [], _KEY_SECONDS)[0]:
                typed = os.read(keyboard, 4096)
                if not typed:
                    return
                for _ in range(typed.count(b"\n")):
                    scan()

    thread = threading.Thread(target=scan_on_each_line, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
