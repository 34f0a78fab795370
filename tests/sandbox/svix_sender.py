"""A local Svix sender: signs with Svix's library, and sends and retries as the hosted service does.

Headers and user agent are those of the hosted service. Each attempt has a new timestamp and
signature and a timeout of 15 s. Only 2xx is a success; redirects are not followed. Retry-After
extends a delay of the retry schedule, at most to twice its length. After a connection error within
one second, the same request is sent again at once. `speed` makes the clock of the retry schedule
run faster, but not that of the timeout.
"""

import asyncio
import io
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from svix.webhooks import Webhook

from sandbox.secret_search import assert_no_secrets

RETRY_SCHEDULE_SECONDS = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600)
TIMEOUT_SECONDS = 15.0
MIN_DELAY_AFTER_TIMEOUT_SECONDS = 60
USER_AGENT = "Svix-Webhooks/1.99.0 (sender-sandbox)"
MAX_RESPONSE_BYTES = 20_000

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Attempt:
    """One request with its response or error. `response` is the body as the dashboard shows it."""

    number: int
    status: int | None
    seconds: float
    response: str
    error: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass
class Message:
    """An event to send, with its attempts. All attempts have the same id and body."""

    message_id: str
    body: bytes
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def delivered(self) -> bool:
        return any(attempt.delivered for attempt in self.attempts)


class SvixSender:
    """Sends to one endpoint. Use it as an async context manager."""

    def __init__(self, url: str, *secrets: str, speed: float = 1.0, branded: bool = True) -> None:
        self.url = url
        self._secrets = secrets
        self._webhooks = [Webhook(secret) for secret in secrets]
        self._speed = speed
        self._prefix = "svix" if branded else "webhook"
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "SvixSender":
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=False), auto_decompress=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http:
            await self._http.close()

    async def deliver(self, message: Message) -> Message:
        """Send the message until the endpoint accepts it or the retry schedule ends."""
        for number, scheduled_delay in enumerate(RETRY_SCHEDULE_SECONDS):
            if number:
                delay = delay_after(message.attempts[-1], scheduled_delay)
                await asyncio.sleep(delay * random.uniform(0.8, 1.2) / self._speed)
            if (await self.attempt(message)).delivered:
                break
        return message

    async def attempt(self, message: Message) -> Attempt:
        """Make one attempt with a new signature, as "resend" in the dashboard does."""
        headers = self.sign(message)
        attempt = await self._post(message, headers)
        if attempt.error and attempt.error != "timeout" and attempt.seconds < 1:
            message.attempts.append(attempt)
            attempt = await self._post(message, headers)
        message.attempts.append(attempt)
        return attempt

    def sign(self, message: Message) -> dict[str, str]:
        """The headers of an attempt with the current time, signed with each secret."""
        now = datetime.now(UTC)
        body = message.body.decode()
        signatures = [w.sign(message.message_id, now, body) for w in self._webhooks]
        return {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "accept": "*/*",
            f"{self._prefix}-id": message.message_id,
            f"{self._prefix}-timestamp": str(int(now.timestamp())),
            f"{self._prefix}-signature": " ".join(signatures),
        }

    async def _post(self, message: Message, headers: Mapping[str, str]) -> Attempt:
        assert self._http
        number = len(message.attempts) + 1
        started = time.monotonic()
        try:
            async with self._http.post(
                self.url,
                data=io.BytesIO(message.body),
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            ) as response:
                text = (await response.content.read(MAX_RESPONSE_BYTES)).decode(errors="replace")
                seconds = time.monotonic() - started
                assert_no_secrets("a response", [text, str(response.headers)], self._secrets)
                return Attempt(number, response.status, seconds, text, headers=response.headers)
        except TimeoutError:
            return Attempt(number, None, time.monotonic() - started, "", "timeout")
        except (aiohttp.ClientError, OSError) as error:
            return Attempt(number, None, time.monotonic() - started, "", type(error).__name__)


def new_message(content: Any, message_id: str | None = None) -> Message:
    """A new message. Content other than bytes is encoded as JSON."""
    if isinstance(content, bytes):
        body = content
    else:
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Message(message_id or new_message_id(), body)


def new_message_id() -> str:
    """A message id in Svix's format: msg_ and a KSUID of 27 characters, which sorts by time."""
    number = (int(time.time()) - 1_400_000_000) << 128 | random.getrandbits(128)
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return f"msg_{digits.rjust(27, '0')}"


def delay_after(last: Attempt, scheduled_delay: float) -> float:
    """The scheduled delay, extended by Retry-After to at most twice its length."""
    if last.error == "timeout":
        scheduled_delay = max(scheduled_delay, MIN_DELAY_AFTER_TIMEOUT_SECONDS)
    retry_after = last.headers.get("Retry-After", "")
    if retry_after.isdecimal():
        return min(max(float(retry_after), scheduled_delay), 2 * scheduled_delay)
    return scheduled_delay
