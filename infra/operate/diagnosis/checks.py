"""Checks of `make doctor` that are the same for every installation.

No check prints or keeps a secret. Each one sends real requests and says how to solve a problem it
finds.
"""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from operate.console import UsageError
from operate.diagnosis.refusals import Refusals
from operate.installation import Api, Check, Endpoint, Instructions, Secret, open_dimmy
from operate.signed_webhooks import HTTP_SECONDS, message_of, new_event_id, send_signed
from pipeline.deadline import Deadline
from pipeline.dimmy.client import DimmyClient, DimmyError
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.layout import receipt_name

_TOLERANCE_SECONDS = 300  # of a webhook's timestamp
_GOOD_CLOCK_SECONDS = 60
_POLL_SECONDS = 0.2


def check_format(secret: Secret) -> Check:
    """Whether a secret has the format that the functions accept."""
    if not secret.value:
        return Check(secret.name, "is missing", secret.remedy)
    try:
        secret.parse(secret.value)
    except ValueError as error:
        return Check(secret.name, str(error), secret.remedy)
    return Check(secret.name, "has the right format")


def check_api(api: Api) -> Iterator[Check]:
    """Whether Dimmy's API answers and accepts the key; and this machine's clock."""
    name = "Dimmy's API"
    try:
        dimmy = open_dimmy(api.url, api.key.value, concurrency=1, timeout_seconds=HTTP_SECONDS)
    except UsageError as error:
        yield Check(name, f"cannot be asked: {error}", "Correct the variable, or unset it.")
        return
    try:
        response = requests.get(
            f"{api.url}/items",
            params={"limit": "1", "start_date": datetime.now(UTC).replace(tzinfo=None).isoformat()},
            headers={"X-API-KEY": api.key.value},
            timeout=HTTP_SECONDS,
            allow_redirects=False,
        )
    except (OSError, ValueError) as error:
        yield Check(
            name,
            f"{urlsplit(api.url).netloc} cannot be reached: {type(error).__name__}",
            "Check DIMMY_API_URL and the network (a proxy, a firewall). If Dimmy is down, wait:"
            " nothing is lost.",
        )
        return
    if response.status_code == 401:
        yield Check(name, "rejects the key (401)", api.key.remedy)
    elif response.status_code not in {200, 404}:  # 404: no items in the window
        result = f"answers {response.status_code}"
        yield Check(name, result, "If it goes on, ask Dimmy. Nothing is lost until then.")
    else:
        yield Check(name, "answers, and accepts the key")
        yield check_items(dimmy)
    difference = _clock_difference(response)
    if difference is not None:
        behind = "behind" if difference > 0 else "ahead of"
        yield _check_clock("the clock of this machine", f"{behind} the API's", difference)


def check_items(dimmy: DimmyClient) -> Check:
    """Whether the API lists any item; where it does not, an empty window says nothing."""
    name = "its items"
    try:
        has_items = dimmy.has_items(Deadline(HTTP_SECONDS), RequestStatistics())
    except DimmyError as error:
        return Check(name, f"cannot be listed: {error}", "If it goes on, ask Dimmy.")
    if has_items:
        return Check(name, "can be listed")
    return Check(
        name,
        "the API lists no items at all",
        "Nothing, for a new account. Otherwise compare DIMMY_API_URL, and the key's account.",
    )


def check_endpoint(endpoint: Endpoint, remedy: str) -> Iterator[Check]:
    """Whether the endpoint refuses an unsigned event, and accepts one signed with each secret.

    Where it refuses this machine for its address, only that is said, which is no fault.
    """
    try:
        unsigned = requests.post(
            endpoint.url, data=b"{}", timeout=HTTP_SECONDS, allow_redirects=False
        )
    except OSError as error:
        yield Check(
            "the endpoint",
            f"{endpoint.url} cannot be reached: {type(error).__name__}",
            "Is it deployed, or `make run` up, and is the address right?",
        )
        return
    yield _check_refusal(unsigned)
    if unsigned.status_code == 403:
        return
    difference = _clock_difference(unsigned)
    if difference is not None:
        ahead = "ahead of" if difference > 0 else "behind"
        yield _check_clock("the clock of the endpoint", f"{ahead} this machine's", difference)
    for number, secret in enumerate(endpoint.signing_secrets, start=1):
        is_only_one = len(endpoint.signing_secrets) == 1
        name = "a signed event" if is_only_one else f"signed with secret {number}"
        yield _check_acceptance(name, endpoint.url, secret, remedy)


def check_refusals(refusals: Refusals, remedy: str) -> Check:
    """Whether webhooks of the sender are refused because their secret is another one."""
    name = "webhooks of the sender"
    if not refusals.lines:
        return Check(name, "none was refused for its signature in the last day")
    if not refusals.go_on:
        return Check(name, f"are accepted; before that, refused: {refusals}")
    return Check(
        name,
        f"are refused: {refusals}",
        f"The signing secret is that of another endpoint: {remedy}. Each endpoint in the webhook"
        " dashboard has its own.",
    )


def check_delivery(
    endpoint: Endpoint, is_stored: Callable[[str], bool], instructions: Instructions
) -> Check:
    """Whether a signed event arrives in storage: topic, push, permissions and storage at once."""
    name = "delivery into storage"
    event_id, _ = _send_test_event(endpoint.url, endpoint.signing_secrets[0])
    started = time.monotonic()
    while not is_stored(event_id):
        if time.monotonic() - started > endpoint.patience_seconds:
            return Check(
                name,
                f"{event_id} has not arrived after {endpoint.patience_seconds:.0f} s",
                f"{instructions.command('trace', EVENT=event_id)} shows where it is.",
            )
        time.sleep(_POLL_SECONDS)
    took = time.monotonic() - started
    return Check(name, f"{receipt_name(event_id)} has arrived after {took:.1f} s")


def _send_test_event(url: str, secret: str) -> tuple[str, requests.Response]:
    """Send a signed event of no known shape, which changes nothing: its id and the answer."""
    event_id = new_event_id("make doctor")
    return event_id, send_signed(url, secret, event_id, json.dumps({"test": "make doctor"}))


def _check_refusal(response: requests.Response) -> Check:
    name = "an unsigned event"
    if response.status_code == 400:
        return Check(name, "is refused")
    if response.status_code == 403:
        return Check(
            name,
            "is refused with 403: this machine is none of the allowed sources, so signatures and"
            " delivery cannot be checked from here",
        )
    return Check(
        name,
        f"is answered with {response.status_code} instead of 400",
        "Another program answers at this address: compare the URL.",
    )


def _check_acceptance(name: str, url: str, secret: str, remedy: str) -> Check:
    try:
        _, response = _send_test_event(url, secret)
    except OSError as error:
        return Check(name, f"gets no answer: {type(error).__name__}", remedy)
    if response.status_code == 204:
        return Check(name, "is accepted")
    result = f"is refused with {response.status_code}: {message_of(response)}"
    return Check(name, result, remedy)


def _clock_difference(response: requests.Response) -> float | None:
    """Seconds by which the server's clock is ahead of this machine's; None without a Date."""
    try:
        date = parsedate_to_datetime(response.headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return date.timestamp() - time.time()


def _check_clock(name: str, compared_with: str, difference: float) -> Check:
    result = f"{abs(difference):.0f} s {compared_with}"
    if abs(difference) < _GOOD_CLOCK_SECONDS:
        return Check(name, result)
    return Check(
        name,
        result,
        f"Set it from a time server: beyond {_TOLERANCE_SECONDS} s every event is refused.",
    )
