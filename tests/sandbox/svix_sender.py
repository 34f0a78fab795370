"""Svix's sender: signs with the real library and sends as Svix does, stubbornly.

Headers, user agent and the ladder of retries are those of the hosted service: a fresh timestamp and
signature on each attempt, 15 s of patience, success on 2xx only, no redirects, Retry-After honoured
between the ladder's own delay and twice that, a connection error within a second sent again at once
as it was. `speed` makes the ladder's clock run faster; the 15 s stay 15 s.
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

from sandbox.secret_search import refuse_secrets

LADDER_SECONDS = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600)
PATIENCE_SECONDS = 15.0
LEAST_DELAY_AFTER_TIMEOUT_SECONDS = 60
USER_AGENT = "Svix-Webhooks/1.99.0 (sender-sandbox)"
KEPT_RESPONSE_BYTES = 20_000

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Attempt:
    """One request: what came back, or why nothing did. `response` is what the dashboard shows."""

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
    """An event on its way; it keeps its id and its body through every attempt."""

    message_id: str
    body: bytes
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def delivered(self) -> bool:
        return any(attempt.delivered for attempt in self.attempts)


class SvixSender:
    """Sends to one endpoint. Use it as an async context."""

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
        """Climb the ladder until the endpoint has accepted the message, or the ladder ends."""
        for number, ladder_delay in enumerate(LADDER_SECONDS):
            if number:
                delay = delay_after(message.attempts[-1], ladder_delay)
                await asyncio.sleep(delay * random.uniform(0.8, 1.2) / self._speed)
            if (await self.attempt(message)).delivered:
                break
        return message

    async def attempt(self, message: Message) -> Attempt:
        """One attempt, freshly signed (also what "resend" in the dashboard does)."""
        headers = self.sign(message)
        attempt = await self._post(message, headers)
        if attempt.error and attempt.error != "timeout" and attempt.seconds < 1:
            message.attempts.append(attempt)
            attempt = await self._post(message, headers)
        message.attempts.append(attempt)
        return attempt

    def sign(self, message: Message) -> dict[str, str]:
        """The headers of an attempt at this moment, signed with each of the secrets."""
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
                timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS),
            ) as response:
                text = (await response.content.read(KEPT_RESPONSE_BYTES)).decode(errors="replace")
                seconds = time.monotonic() - started
                refuse_secrets("an answer", [text, str(response.headers)], self._secrets)
                return Attempt(number, response.status, seconds, text, headers=response.headers)
        except TimeoutError:
            return Attempt(number, None, time.monotonic() - started, "", "timeout")
        except (aiohttp.ClientError, OSError) as error:
            return Attempt(number, None, time.monotonic() - started, "", type(error).__name__)


def new_message(content: Any, message_id: str | None = None) -> Message:
    """A message with an id of Svix's form; bytes are the body as they are, all else as JSON."""
    if isinstance(content, bytes):
        body = content
    else:
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Message(message_id or new_message_id(), body)


def new_message_id() -> str:
    """msg_ and 27 characters: a KSUID, which sorts by time."""
    number = (int(time.time()) - 1_400_000_000) << 128 | random.getrandbits(128)
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return f"msg_{digits.rjust(27, '0')}"


def delay_after(last: Attempt, ladder_delay: float) -> float:
    """The ladder's delay, stretched by Retry-After to at most twice its length."""
    if last.error == "timeout":
        ladder_delay = max(ladder_delay, LEAST_DELAY_AFTER_TIMEOUT_SECONDS)
    asked = last.headers.get("Retry-After", "")
    if asked.isdecimal():
        return min(max(float(asked), ladder_delay), 2 * ladder_delay)
    return ladder_delay
