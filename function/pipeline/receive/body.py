"""Reads the bodies of requests within bounds on their size, their time and their memory.

A sender is not authenticated before its whole body has arrived, so bodies that turn out to be
unsigned must not keep others waiting. Small ones are bounded by the number of simultaneous requests
alone. Larger ones share a bound of memory and are admitted in the order of their arrival.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable

from starlette.requests import ClientDisconnect

from pipeline.receive.verification import SignatureCheck

MAX_BODY_BYTES = 32 * 1024 * 1024  # Google Cloud's limit for a request to a function
SMALL_BODY_BYTES = 256 * 1024
LARGE_BODIES_BYTES = 2 * MAX_BODY_BYTES  # of all larger bodies of the process together
ROOM_SECONDS = 5.0  # how long a larger body waits for others
BODY_SECONDS = 15.0  # the sender does not wait longer for an answer
DRAIN_SECONDS = 2.0
_DRAINED_BYTES = 2 * MAX_BODY_BYTES


class BodyError(Exception):
    """The body could not be read."""


class BodyTooLargeError(BodyError):
    """The body is over MAX_BODY_BYTES."""


class NoRoomError(BodyError):
    """Other large bodies left no room for this one within ROOM_SECONDS."""


class SlowBodyError(BodyError):
    """The body did not arrive within BODY_SECONDS."""


class IncompleteBodyError(BodyError):
    """The connection ended before the body did."""


class BodyReader:
    """Reads the bodies of all requests of the process. Belongs to one event loop."""

    def __init__(self) -> None:
        self._room = _Room(LARGE_BODIES_BYTES)

    @contextlib.asynccontextmanager
    async def read(
        self,
        stream: AsyncIterator[bytes],
        announced: int,
        start_check: Callable[[], SignatureCheck],
    ) -> AsyncIterator[bytes]:
        """The body of a request, which counts until the block is left.

        The signature of a large body is checked while it arrives: what is not authentic is never
        copied. `announced` is the size in bytes that the sender has announced, or 0.

        Raises:
            BodyError: one of its subclasses.
            UnauthenticRequestError: the body is large, and no signature matches.
        """
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    body = await self._read(stream, announced, start_check, held)
            except ClientDisconnect:
                raise IncompleteBodyError from None
            except TimeoutError:
                raise SlowBodyError from None
            yield body

    async def _read(
        self,
        stream: AsyncIterator[bytes],
        announced: int,
        start_check: Callable[[], SignatureCheck],
        held: contextlib.AsyncExitStack,
    ) -> bytes:
        if announced > MAX_BODY_BYTES:
            raise BodyTooLargeError
        check: SignatureCheck | None = None
        if announced > SMALL_BODY_BYTES:
            await held.enter_async_context(self._room.reserve(announced))
            check = start_check()
        body = bytearray()
        async for chunk in stream:
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise BodyTooLargeError
            if check:
                check.update(chunk)
            elif len(body) > SMALL_BODY_BYTES:
                await held.enter_async_context(self._room.reserve(MAX_BODY_BYTES))
                check = start_check()
                check.update(body)
        if check:
            check.raise_unless_authentic()
        return bytes(body)


class _Room:
    """The bytes that all large bodies share."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[object] = deque()  # one token for each body, in order of arrival
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Wait until so many bytes are free; they are taken until the block is left.

        Raises:
            NoRoomError: they were not free within ROOM_SECONDS.
        """
        token = object()
        async with self._changed:
            self._waiting.append(token)
            try:
                async with asyncio.timeout(ROOM_SECONDS):
                    await self._changed.wait_for(
                        lambda: self._waiting[0] is token and size <= self._free
                    )
                self._free -= size
            except TimeoutError:
                raise NoRoomError from None
            finally:
                self._waiting.remove(token)
                self._changed.notify_all()
        try:
            yield
        finally:
            async with self._changed:
                self._free += size
                self._changed.notify_all()


async def drain(stream: AsyncIterator[bytes]) -> bool:
    """Read the rest of a refused body, so that the sender gets the answer and not a reset.

    Returns:
        Whether all of it has arrived; it is not waited for long.
    """
    size = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in stream:
                size += len(chunk)
                if size > _DRAINED_BYTES:
                    return False
    except (ClientDisconnect, TimeoutError):
        return False
    return True
