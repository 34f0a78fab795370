"""What `make doctor` looks at, wherever the functions run. Each check yields what it found.

No check prints or keeps a secret; each asks a real server and says how to mend what it finds.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
from rich.console import Console
from standardwebhooks.webhooks import Webhook

from operate.console import UsageError
from pipeline.receive.settings import parse_signing_secrets

HTTP_SECONDS = 15.0
_TOLERANCE_SECONDS = 300  # of a webhook's timestamp
_CLOSE_SECONDS = 60


@dataclass(frozen=True)
class Checked:
    """One line: what was looked at, what was found, and how to mend it where it is not fine."""

    what: str
    found: str
    remedy: str = ""


def show(console: Console, checks: Iterable[Checked]) -> int:
    """Print each check as it comes; return the exit status, 1 where something is to be mended."""
    faults = 0
    for check in checks:
        faults += bool(check.remedy)
        mark, style = ("WRONG", "red") if check.remedy else ("fine", "green")
        console.print(f"  {mark:<6}{check.what:<28}", style=style, end="", markup=False)
        console.print(check.found, markup=False, soft_wrap=True)
        if check.remedy:
            console.print(f"{'':<8}{check.remedy}", markup=False, soft_wrap=True)
    said = "All is fine." if not faults else f"{faults} to mend."
    console.print(said, style="red" if faults else "green", markup=False)
    return 1 if faults else 0


def check_form(
    name: str, value: str, parse: Callable[[str], object], remedy: str
) -> Iterator[Checked]:
    """Whether a secret has the form that the functions take."""
    if not value:
        yield Checked(name, "is missing", remedy)
        return
    try:
        parse(value)
    except ValueError as error:
        yield Checked(name, str(error), remedy)
    else:
        yield Checked(name, "has the right form")


def check_api(url: str, key: str, remedy: str) -> Iterator[Checked]:
    """Whether Dimmy's API answers and takes the key; and this machine's clock beside the API's."""
    what = "Dimmy's API"
    try:
        response = requests.get(
            f"{url}/items",
            params={"limit": "1", "start_date": _now_without_zone()},
            headers={"X-API-KEY": key},
            timeout=HTTP_SECONDS,
            allow_redirects=False,
        )
    except (requests.RequestException, ValueError) as error:
        yield Checked(
            what,
            f"{urlsplit(url).netloc} cannot be reached: {type(error).__name__}",
            "Look at DIMMY_API_URL and at the way out (a proxy, a firewall); if Dimmy is down,"
            " wait: nothing is lost.",
        )
        return
    if response.status_code == 401:
        yield Checked(what, "rejects the key (401)", remedy)
    elif response.status_code not in {200, 404}:  # 404: no item in the window
        found = f"answers {response.status_code}"
        yield Checked(what, found, "If it goes on, ask Dimmy; nothing is lost meanwhile.")
    else:
        yield Checked(what, "answers, and takes the key")
    yield from _clock("the clock of this machine", response.headers.get("Date", ""), time.time())


def check_endpoint(url: str, signing_secrets: str, remedy: str) -> Iterator[Checked]:
    """Whether the endpoint refuses an unsigned event, and takes one signed with each secret."""
    try:
        unsigned = requests.post(url, data=b"{}", timeout=HTTP_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        yield Checked(
            "the endpoint",
            f"{url} cannot be reached: {type(error).__name__}",
            "Is it deployed, or `make run` up, and is the address right?",
        )
        return
    yield _refusal(unsigned)
    yield from _clock("the clock of the endpoint", unsigned.headers.get("Date", ""), time.time())
    values = parse_signing_secrets(signing_secrets)
    for number, secret in enumerate(values, start=1):
        what = "a signed event" if len(values) == 1 else f"signed with secret {number}"
        yield _answer_to_signed(what, url, secret, remedy)


def send_signed(url: str, secret: str) -> tuple[str, requests.Response]:
    """Send a signed event of no known shape, which is kept and changes nothing; its id."""
    event_id = f"msg_doctor{secrets.token_hex(8)}"
    now = datetime.fromtimestamp(int(time.time()), UTC)
    body = json.dumps({"test": "make doctor"})
    headers = {
        "svix-id": event_id,
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": Webhook(secret).sign(event_id, now, body),
        "Content-Type": "application/json",
    }
    response = requests.post(
        url, data=body, headers=headers, timeout=HTTP_SECONDS, allow_redirects=False
    )
    return event_id, response


def check_way(
    event_id: str, is_kept: Callable[[str], bool], remedy: str, patience: float
) -> Iterator[Checked]:
    """Whether a signed event comes through: topic, push, permissions and storage at once."""
    what = "from there into storage"
    started = time.monotonic()
    while not is_kept(event_id):
        if time.monotonic() - started > patience:
            yield Checked(what, f"{event_id} is not there after {patience:.0f} s", remedy)
            return
        time.sleep(0.2)
    took = time.monotonic() - started
    yield Checked(what, f"events/{event_id}.json is there after {took:.1f} s")


def need(value: str, missing: str) -> str:
    """The value, if there is one.

    Raises:
        UsageError: there is none.
    """
    if not value:
        raise UsageError(missing)
    return value


def _refusal(response: requests.Response) -> Checked:
    what = "an unsigned event"
    if response.status_code == 400:
        return Checked(what, "is refused")
    if response.status_code == 403:
        return Checked(
            what,
            "is refused for its source, so the signature cannot be tried from here",
            "Nothing, if this machine is not to be let in; else add it to ALLOWED_SOURCES.",
        )
    return Checked(
        what,
        f"is answered {response.status_code} in place of 400",
        "Something else answers at this address: compare the URL.",
    )


def _answer_to_signed(what: str, url: str, secret: str, remedy: str) -> Checked:
    try:
        _, response = send_signed(url, secret)
    except requests.RequestException as error:
        return Checked(what, f"gets no answer: {type(error).__name__}", remedy)
    if response.status_code == 204:
        return Checked(what, "is accepted")
    try:
        said = str(response.json()["message"])
    except (ValueError, LookupError, TypeError):
        said = response.text[:200]
    return Checked(what, f"is refused with {response.status_code}: {said}", remedy)


def _now_without_zone() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat()


def _clock(what: str, date: str, now: float) -> Iterator[Checked]:
    try:
        difference = parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError):
        return  # it tells no time
    found = f"{abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} this machine's"
    if what == "the clock of this machine":
        found = f"{abs(difference):.0f} s {'behind' if difference > 0 else 'ahead of'} the API's"
    if abs(difference) < _CLOSE_SECONDS:
        yield Checked(what, found)
    else:
        yield Checked(
            what,
            found,
            f"Set it by a time server: beyond {_TOLERANCE_SECONDS} s every event is refused.",
        )
