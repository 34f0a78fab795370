"""The way in: verify a webhook, publish it, answer. Knows nothing of Dimmy, parses nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

import sources
from logs import Severity, log
from publisher import (
    CONFIRMATION_SECONDS,
    MAX_BATCH_BYTES,
    Publisher,
    PublishError,
    open_publisher,
)
from settings import ReceiveSettings
from storage import StorageError, Store, payload_name
from verification import (
    MalformedRequestError,
    SignedHeaders,
    UnauthenticRequestError,
    VerifiedEvent,
    Verifier,
    check_timestamp,
    claimed_event_id,
    read_headers,
)

MAX_BODY_BYTES = 32 * 1024 * 1024  # Google Cloud lets no more through to a function
_MAX_MESSAGE_BODY_BYTES = MAX_BATCH_BYTES - 4096  # room for the attributes
_LARGE_BODY_BYTES = 1024 * 1024  # hashed beside the event loop, not in it
_DRAINED_BYTES = 2 * MAX_BODY_BYTES
# Bodies are held before anything is known of their sender, so all of them together have a bound.
MAX_BUFFERED_BYTES = 4 * MAX_BODY_BYTES
BODY_SECONDS = 15.0  # the sender waits no longer for our answer
RETRY_AFTER_SECONDS = 5

_TOO_LARGE = (
    f"The body is over {MAX_BODY_BYTES} bytes (32 MiB), more than a function can take. Subscribe"
    " this endpoint to items.scanned, whose messages stay small."
)


class Receiver:
    """Answers deliveries of webhooks. What touches the network opens with the first of them."""

    def __init__(self, settings: ReceiveSettings) -> None:
        self._settings = settings
        self._verifier = Verifier(settings.signing_secrets)
        self._store = Store(settings.storage)
        self._publisher: Publisher | None = None
        self._opening = asyncio.Lock()
        self._buffered = 0  # bytes of all bodies that are being taken
        self._large_body = asyncio.Lock()  # verifying one takes three times its size

    async def handle(self, request: Request) -> Response:
        """204 when, and only when, Pub/Sub has confirmed the event; else the reason why not."""
        started = time.perf_counter()
        headers = _Headers(request)
        outcome = await self._answer(request, headers)
        outcome.report(
            started, trace=headers.get("traceparent"), source=self._address_of(request, headers)
        )
        return outcome.response

    async def _answer(self, request: Request, headers: "_Headers") -> "_Outcome":
        if request.method != "POST":
            refusal = _refusal(405, "method_not_allowed", "Webhooks are sent with POST.")
            refusal.response.headers["Allow"] = "POST"
            return refusal
        if self._settings.allowed_sources:
            address = self._address_of(request, headers)
            if not sources.is_allowed(address, self._settings.allowed_sources):
                await _drain(request.stream())
                shown = address or "(unknown)"
                message = f"The source address {shown} is not in ALLOWED_SOURCES."
                return _refusal(403, "source_not_allowed", message, **_claimed(headers))
        try:
            signed = read_headers(headers.get)
            check_timestamp(signed)
        except (MalformedRequestError, UnauthenticRequestError) as error:
            await _drain(request.stream())
            return _unverified(error, **_claimed(headers))
        return await self._take(request, signed)

    async def _take(self, request: Request, headers: SignedHeaders) -> "_Outcome":
        """Read the body, verify it and publish it, holding its share of the memory for so long."""
        known: dict[str, Any] = {"event_id": headers.event_id}
        share = 0
        body = bytearray()
        stream = request.stream()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in stream:
                    body += chunk
                    self._buffered += len(chunk)
                    share += len(chunk)
                    if len(body) > MAX_BODY_BYTES or self._buffered > MAX_BUFFERED_BYTES:
                        break
            is_too_large = len(body) > MAX_BODY_BYTES
            if is_too_large or self._buffered > MAX_BUFFERED_BYTES:
                body.clear()
                self._buffered -= share
                share = 0
                await _drain(stream)
                if is_too_large:
                    return _refusal(413, "body_too_large", _TOO_LARGE, **known)
                return _unavailable("too many large bodies at the same time", **known)
            whole = bytes(body)
            body.clear()
            return await self._verify_and_publish(headers, whole)
        except ClientDisconnect:
            return _refusal(400, "incomplete_body", "The connection ended before the body did.")
        except TimeoutError:
            message = f"The body did not come within {BODY_SECONDS:.0f} s."
            return _refusal(408, "slow_body", message, **known)
        finally:
            self._buffered -= share

    async def _verify_and_publish(self, headers: SignedHeaders, body: bytes) -> "_Outcome":
        known: dict[str, Any] = {"event_id": headers.event_id, "bytes": len(body)}
        try:
            if len(body) < _LARGE_BODY_BYTES:
                event = self._verifier.verify(headers, body)
            else:
                async with self._large_body:
                    event = await asyncio.to_thread(self._verifier.verify, headers, body)
        except (MalformedRequestError, UnauthenticRequestError) as error:
            return _unverified(error, **known)
        try:
            await self._publish(event)
        except PublishError as error:
            return _unavailable(f"Pub/Sub: {error}", **known)
        except StorageError as error:
            return _unavailable(f"storage: {error}", **known)
        except TimeoutError:
            return _unavailable(f"no confirmation within {CONFIRMATION_SECONDS:.0f} s", **known)
        return _Outcome(Response(status_code=204), "published", known)

    async def _publish(self, event: VerifiedEvent) -> None:
        """Return when Pub/Sub has confirmed the event, within 10 s.

        Raises:
            PublishError, StorageError, TimeoutError: it has not.
        """
        is_large = len(event.body) > _MAX_MESSAGE_BODY_BYTES
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
    """The headers of a request. Repeated ones are comma-joined, as Google's front end does it."""

    def __init__(self, request: Request) -> None:
        self._values: dict[bytes, bytes] = {}
        for name, value in request.headers.raw:
            earlier = self._values.get(name)
            self._values[name] = value if earlier is None else earlier + b"," + value

    def get(self, name: str) -> str | None:
        """The value for a lower-case name."""
        value = self._values.get(name.encode())
        return None if value is None else value.decode("latin-1")


def _claimed(headers: "_Headers") -> dict[str, str]:
    """What a request that is refused unread says that it is, so that its line can be found."""
    event_id = claimed_event_id(headers.get)
    return {"event_id": event_id} if event_id else {}


class _Outcome:
    """What one delivery is answered, and the one log line that it ends in."""

    def __init__(self, response: Response, outcome: str, known: dict[str, Any]) -> None:
        self.response = response
        self._outcome = outcome
        self._known = known

    def report(self, started: float, **known: object) -> None:
        status = self.response.status_code
        severity: Severity = "INFO" if status < 400 else "WARNING" if status < 500 else "ERROR"
        log(
            severity,
            f"webhook {self._outcome}",
            outcome=self._outcome,
            status=status,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
            **known,
            **self._known,
        )


def _refusal(status: int, code: str, message: str, **known: Any) -> _Outcome:
    response = JSONResponse({"error": code, "message": message}, status_code=status)
    return _Outcome(response, code, known)


def _unverified(error: MalformedRequestError | UnauthenticRequestError, **known: Any) -> _Outcome:
    status = 401 if isinstance(error, UnauthenticRequestError) else 400
    return _refusal(status, error.code, str(error), **known)


def _unavailable(reason: str, **known: Any) -> _Outcome:
    """503, which the sender answers by sending again. The reason is for our log, not for it."""
    response = JSONResponse(
        {
            "error": "unavailable",
            "message": "The receiver could not keep the event at this moment. Nothing is lost: it"
            " will be accepted when it is sent again. The receiver's log has the reason.",
        },
        status_code=503,
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
    return _Outcome(response, "unavailable", known | {"reason": reason})


async def _drain(stream: AsyncIterator[bytes]) -> None:
    """Read a refused body to its end, so that the sender reads our reason and not a reset."""
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in stream:
                size += len(chunk)
                if size > _DRAINED_BYTES:
                    return
    except (ClientDisconnect, TimeoutError):
        return
