"""`make send FILE=event.json` (or ITEMS=id,id or FULL=item.json): sends an event as Svix does.

It is signed with the secret of the installation and posted to its endpoint; URL and SECRET choose
others, EVENT the id of the event. A URL without SECRET makes it ask, where there is a terminal.
DEAD_LETTER=1 puts it among the dead letters of `make run` instead, to try `make redrive`. Exit
status 0 when it was accepted; 1 when it was refused; 2 when it could not be sent.
"""

import json
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from operate.commands.arguments import read_event_id
from operate.console import (
    CommandError,
    UsageError,
    ask_unseen,
    confirm,
    print_error,
    print_text,
)
from operate.installation import Installation
from operate.signed_webhooks import message_of, new_event_id, send_signed
from pipeline.json_text import NotJsonError
from pipeline.message import MAX_DATA_BYTES, write_attributes
from pipeline.receive.settings import parse_signing_secrets
from pipeline.store.items import NotAnItemError, is_item_id, read_item

_SOURCES = ("FILE", "ITEMS", "FULL")


def run(installation: Installation, settings: Mapping[str, str], console: Console) -> int:
    """Send the event, print the answer, and return the exit status."""
    body = _body(settings)
    event_id = read_event_id(settings) or new_event_id("make send")
    trace = installation.instructions.command("trace", EVENT=event_id)
    if settings.get("DEAD_LETTER") == "1":
        _put_among_dead_letters(installation, event_id, body)
        redrive = installation.instructions.command("redrive")
        print_text(console, f"{event_id} is a dead letter: {redrive} resolves it.")
        return 0
    url, secret = _endpoint(installation, settings)
    if installation.asks_before_changes:
        confirm(console, settings, f"Send {event_id} to {url}?", refused="Nothing was sent.")
    try:
        response = send_signed(url, secret, event_id, body)
    except OSError as error:
        raise CommandError(f"{url} cannot be reached: {type(error).__name__}") from error
    if response.ok:
        print_text(
            console,
            f"{response.status_code}: {url} has accepted {event_id}. {trace} shows what"
            " happens to it.",
        )
        return 0
    print_error(console, f"{response.status_code}: {message_of(response)}")
    return 1


def _body(settings: Mapping[str, str]) -> str:
    given = [name for name in _SOURCES if settings.get(name)]
    if len(given) != 1:
        raise UsageError(
            "Name what to send: FILE=event.json (any body), ITEMS=id,id (an event that names these"
            " items) or FULL=item.json (an event with the whole item)."
        )
    (name,) = given
    if name == "ITEMS":
        item_ids = re.split(r"[\s,]+", settings[name].strip())
        wrong = [each for each in item_ids if not is_item_id(each)]
        if wrong:
            raise UsageError(f"{wrong[0]!r} is not an item's id: letters, digits, _ and - only.")
        return json.dumps({"item_ids": item_ids})
    path = Path(settings[name])
    try:
        content = path.read_bytes()
        body = content.decode()
    except OSError as error:
        raise UsageError(f"{name}={path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise UsageError(f"{name}={path} is not UTF-8 text, as every webhook is.") from None
    if name == "FULL":
        try:
            read_item(content)
        except (NotJsonError, NotAnItemError) as error:
            raise UsageError(f"FULL={path} is not an item: {error}.") from error
    return body


def _endpoint(installation: Installation, settings: Mapping[str, str]) -> tuple[str, str]:
    """Where to send to, and the secret to sign with."""
    url, secret = settings.get("URL", ""), settings.get("SECRET", "")
    if url and not _is_url(url):
        raise UsageError(f"URL={url} is not a URL: it begins with https:// or http://.")
    if url and not secret and sys.stdin.isatty():
        secret = ask_unseen(f"Signing secret of {url}, whsec_...")
    if url and not secret:
        # Signed with the secret of this installation, another host could send it here again.
        raise UsageError(f"SECRET is missing: the signing secret of {url}, whsec_...")
    if secret:
        try:
            secret = parse_signing_secrets(secret)[0]
        except ValueError as error:
            raise UsageError(f"SECRET {error}.") from error
    if url and secret:
        return url, secret
    endpoint = installation.endpoint()
    if endpoint is None or not endpoint.signing_secrets:
        raise UsageError(
            "There is no endpoint: start `make run` in another terminal, or name URL and SECRET."
        )
    return endpoint.url, secret or endpoint.signing_secrets[0]


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _put_among_dead_letters(installation: Installation, event_id: str, body: str) -> None:
    if len(body.encode()) > MAX_DATA_BYTES:
        raise UsageError(f"A dead letter has at most {MAX_DATA_BYTES:,} bytes.")
    attributes = write_attributes(event_id, str(int(time.time())), datetime.now(UTC), None)
    installation.publish_dead_letter(attributes, body.encode())
