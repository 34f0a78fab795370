"""The HTTP webhook endpoint: verifies a webhook and publishes it. It never parses the body."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pipeline.layout import payload_name
from pipeline.logs import stack_trace
from pipeline.message import MAX_DATA_BYTES
from pipeline.receive import answers, sources
from pipeline.receive.answers import Answer
from pipeline.receive.body import (
    BODY_SECONDS,
    MAX_BODY_BYTES,
    ROOM_SECONDS,
    BodyReader,
    BodyTooLargeError,
    IncompleteBodyError,
    NoRoomError,
    SlowBodyError,
    drain,
)
from pipeline.receive.publisher import (
    CONFIRMATION_SECONDS,
    Publisher,
    PublishError,
    open_publisher,
)
from pipeline.receive.settings import ReceiveSettings
from pipeline.receive.verification import (
    SignedHeaders,
    VerificationError,
    VerifiedEvent,
    Verifier,
    check_timestamp,
    claimed_event_id,
    read_headers,
)
from pipeline.store.errors import StorageError
from pipeline.store.store import Store
from pipeline.unforeseen import state_after

_LARGE_BODY_BYTES = 1024 * 1024  # from here on verified in a thread, beside the event loop

_TOO_LARGE = (
    f"The body is over {MAX_BODY_BYTES} bytes (32 MiB), more than a function can accept. Subscribe"
    " this endpoint to items.scanned, whose messages stay small."
)


class Receiver:
    """Answers webhooks. Connects to nothing before the first of them."""

    def __init__(self, settings: ReceiveSettings) -> None:
        self._settings = settings
        self._verifier = Verifier(settings.signing_secrets)
        self._store = Store(settings.storage)
        self._publisher: Publisher | None = None
        self._opening = asyncio.Lock()
        self._bodies = BodyReader()
        # Verifying a large body takes three times its size, so only one at a time.
        self._large_body = asyncio.Lock()

    async def handle(self, request: Request) -> Response:
        """204 when, and only when, Pub/Sub has confirmed the event; else the reason why not."""
        started = time.perf_counter()
        headers = _Headers(request)
        stream = request.stream()
        try:
            answer = await self._answer(request, headers, stream)
        except Exception as error:  # noqa: BLE001  # see pipeline.unforeseen
            answer = answers.unavailable(
                state_after(error), **_claimed(headers), **stack_trace(error)
            )
        status = answer.response.status_code
        # A slow body has had its time, and its stream has ended with it.
        if status == 408 or (status >= 400 and not await drain(stream)):
            answer.response.headers["Connection"] = "close"
        source = self._address_of(request, headers)
        answer.log(started, trace=headers.get("traceparent"), source=source)
        return answer.response

    async def _answer(
        self, request: Request, headers: "_Headers", stream: AsyncIterator[bytes]
    ) -> Answer:
        """Check everything that does not need the body; then process the body."""
        if request.method != "POST":
            answer = answers.refused(405, "method_not_allowed", "Webhooks are sent with POST.")
            answer.response.headers["Allow"] = "POST"
            return answer
        if self._settings.allowed_sources:
            address = self._address_of(request, headers)
            if not sources.is_allowed(address, self._settings.allowed_sources):
                message = f"The source address {address or '(unknown)'} is not in ALLOWED_SOURCES."
                return answers.refused(403, "source_not_allowed", message, **_claimed(headers))
        try:
            signed = read_headers(headers.get)
            check_timestamp(signed)
        except VerificationError as error:
            return answers.unverified(error, **_claimed(headers))
        return await self._process_body(signed, stream, headers.content_length)

    async def _process_body(
        self, headers: SignedHeaders, stream: AsyncIterator[bytes], announced: int
    ) -> Answer:
        """Read the body, verify it and publish it."""
        event_id = headers.event_id
        try:
            start_check = partial(self._verifier.start_check, headers)
            async with self._bodies.read(stream, announced, start_check) as body:
                return await self._verify_and_publish(headers, body)
        except VerificationError as error:
            return answers.unverified(error, event_id=event_id)
        except IncompleteBodyError:
            message = "The connection ended before the body did."
            return answers.refused(400, "incomplete_body", message, event_id=event_id)
        except SlowBodyError:
            message = f"The body did not arrive within {BODY_SECONDS:.0f} s."
            return answers.refused(408, "slow_body", message, event_id=event_id)
        except BodyTooLargeError:
            return answers.refused(413, "body_too_large", _TOO_LARGE, event_id=event_id)
        except NoRoomError:
            reason = f"other large bodies left no room within {ROOM_SECONDS:.0f} s"
            return answers.unavailable(reason, event_id=event_id)

    async def _verify_and_publish(self, headers: SignedHeaders, body: bytes) -> Answer:
        fields: dict[str, Any] = {"event_id": headers.event_id, "bytes": len(body)}
        try:
            if len(body) < _LARGE_BODY_BYTES:
                event = self._verifier.verify(headers, body)
            else:
                async with self._large_body:
                    event = await asyncio.to_thread(self._verifier.verify, headers, body)
        except VerificationError as error:
            return answers.unverified(error, **fields)
        try:
            await self._publish(event)
        except PublishError as error:
            return answers.unavailable(f"Pub/Sub: {error}", **fields)
        except StorageError as error:
            return answers.unavailable(f"storage: {error}", **fields)
        except TimeoutError:
            reason = f"no confirmation within {CONFIRMATION_SECONDS:.0f} s"
            return answers.unavailable(reason, **fields)
        return answers.published(**fields)

    async def _publish(self, event: VerifiedEvent) -> None:
        """Return when Pub/Sub has confirmed the event, within CONFIRMATION_SECONDS.

        Raises:
            PublishError, StorageError, TimeoutError: it has not.
        """
        is_large = len(event.body) > MAX_DATA_BYTES
        if self._publisher and not is_large:
            await self._publisher.publish(event)
            return
        async with asyncio.timeout(CONFIRMATION_SECONDS):
            async with self._opening:
                if self._publisher is None:
                    self._publisher = await open_publisher(
                        self._settings.events_topic, self._settings.pubsub_emulator_host
                    )
            if is_large:
                await self._store.put_payload(event.event_id, event.body)
            payload = payload_name(event.event_id) if is_large else None
            await self._publisher.publish(event, payload)

    def _address_of(self, request: Request, headers: "_Headers") -> sources.Address | None:
        return sources.client_address(
            headers.get("x-forwarded-for") or "",
            request.client.host if request.client else None,
            self._settings.trusted_proxy_hops,
        )


class _Headers:
    """The headers of a request. Repeated ones are joined by commas, as Google's front end does."""

    def __init__(self, request: Request) -> None:
        self._values: dict[bytes, bytes] = {}
        for name, value in request.headers.raw:
            earlier = self._values.get(name)
            self._values[name] = value if earlier is None else earlier + b"," + value

    @property
    def content_length(self) -> int:
        """The size of the body in bytes, or 0 where it is not announced."""
        text = self._values.get(b"content-length", b"")
        return int(text) if text.isdigit() else 0

    def get(self, name: str) -> str | None:
        """The value for a lower-case name."""
        value = self._values.get(name.encode())
        return None if value is None else value.decode("latin-1")


def _claimed(headers: _Headers) -> dict[str, str]:
    """The event id that a refused request claims, so that its log line is found by it."""
    event_id = claimed_event_id(headers.get)
    return {"event_id": event_id} if event_id else {}
