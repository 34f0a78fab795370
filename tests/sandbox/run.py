"""`make run`: the pipeline kept up on this machine, for `svix listen` and a real phone.

Settings come from .env (.env.example explains them) and from the environment, which wins. Exit
status 0 after Ctrl-C; 2 when it could not begin.
"""

import random
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from operate.console import UsageError, open_console
from operate.ports import read_port
from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi
from sandbox.environment import DEFAULT_PORT, announced, data_folder, read_settings, real_api
from sandbox.google_pubsub import MissingEmulatorError
from sandbox.journal import Journal
from sandbox.log_file import LogFile
from sandbox.processes import StartError
from sandbox.stack import Stack, new_secret, pubsub_kind, start_stack
from sandbox.svix_sender import new_message

_PASSED_ON = (
    "ALLOWED_SOURCES",
    "TRUSTED_PROXY_HOPS",
    "DIMMY_CONCURRENCY",
    "DIMMY_TIMEOUT_SECONDS",
    "ATTEMPT_SECONDS",
)


def main() -> int:
    settings = read_settings()
    folder = data_folder(settings)
    journal = Journal(open_console(), folder)
    log_file = LogFile(folder)
    stopped = threading.Event()

    def on_log(function: str, fields: dict[str, Any]) -> None:
        log_file.add(function, fields)
        journal.log(function, fields)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    try:
        port = read_port(settings, "PORT", DEFAULT_PORT)
        api = real_api(settings)
        secrets = _secrets(settings)
        kind = pubsub_kind(settings)
        journal.say("Starting ...")
        log_file.begin()
        with start_stack(
            folder,
            pubsub=kind,
            port=port,
            api=(api.url, api.key) if api else None,
            secrets=secrets,
            settings={name: settings[name] for name in _PASSED_ON if settings.get(name)},
            # Google's emulator loses messages when it has a backoff.
            backoff_seconds=None if kind == "google" else (1.0, 60.0),
            max_delivery_attempts=20,
            on_log=on_log,
        ) as stack:
            if stack.api:
                _put_history(stack.api)
            _explain(stack, journal)
            _scan_on_enter(stack, journal)
            with announced(stack.running, folder):
                stopped.wait()
            journal.say("\nStopping ...")
    except (UsageError, ValueError, MissingEmulatorError, StartError) as error:
        journal.say(str(error), "red")
        return 2
    journal.say(f"Stopped. What was stored stays in {folder}")
    return 0


def _secrets(settings: Mapping[str, str]) -> tuple[str, ...]:
    text = settings.get("SIGNING_SECRETS", "")
    if secrets := tuple(text.replace(",", " ").split()):
        return secrets
    if text:
        raise UsageError("SIGNING_SECRETS holds no secret: write whsec_..., or leave it out.")
    if settings.get("DIMMY_API_KEY"):
        raise UsageError(
            "SIGNING_SECRETS is missing: copy the signing secret of your endpoint (whsec_...) from"
            " Dimmy's webhook dashboard into .env."
        )
    return (new_secret(),)


_HISTORY_ITEMS = 40
_HISTORY_DAYS = 10


def _put_history(api: DimmyApi) -> None:
    """Scans from before the installation, for `make backfill`."""
    variety = random.Random(1)
    now = datetime.now(UTC).replace(tzinfo=None)
    for _ in range(_HISTORY_ITEMS):
        created = (now - timedelta(days=variety.uniform(0, _HISTORY_DAYS))).isoformat()
        item = catalogue.make_item(variety, photos_at=api.photos_at)
        api.put(item | {"created_at": created, "updated_at": created})


def _explain(stack: Stack, journal: Journal) -> None:
    url = f"http://localhost:{stack.receive.port}/webhook"
    say = journal.say
    say("\nUp. Each event and each item shows below as it comes in; Ctrl-C stops.\n", "bold")
    say(f"  Webhooks   {url}")
    say(f"  Items      {stack.folder}/items/")
    say(f"  Receipts   {stack.folder}/events/")
    say("  Browser    make view, in another terminal")
    say(f"  Dimmy      {stack.api.url if stack.api else stack.resolve.settings['DIMMY_API_URL']}")
    if stack.api:
        say(
            "\nDIMMY_API_KEY is not set, so items come from the sandbox's own Dimmy, which does not"
            " know a real phone's scans."
        )
    if stack.api and sys.stdin.isatty():
        say("Press Enter for a sample scan.")
    say("\nFor a real phone, in another terminal:")
    say(f"  svix listen {url}")
    if stack.api:
        say(
            "Add the URL that it prints as an endpoint in Dimmy's webhook dashboard (Account &"
            " Limits), for items.scanned. Copy the endpoint's signing secret into .env as"
            " SIGNING_SECRETS and an API key as DIMMY_API_KEY (.env.example explains them), and"
            " start again."
        )
    say("")


def _scan_on_enter(stack: Stack, journal: Journal) -> None:
    """Let Enter send a sample scan, where there is a keyboard and the sandbox's Dimmy."""
    api = stack.api
    if not (api and sys.stdin.isatty()):
        return
    variety = random.Random()

    def scan_for_each_line() -> None:
        for _ in sys.stdin:
            item = catalogue.make_item(variety, photos_at=api.photos_at)
            message = new_message({"item_ids": [api.put(item)]})
            journal.sent(message, "items.scanned, 1 item")
            journal.answered(message, stack.attempt(message))

    threading.Thread(target=scan_for_each_line, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
