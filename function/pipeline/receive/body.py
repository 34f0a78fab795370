"""Reads the bodies of requests within bounds on their size, their time and their memory.

A body is held in memory before anything is known of its sender, so all bodies of the process
together have a bound, too.
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect

MAX_BODY_BYTES = 32 * 1024 * 1024  # Google Cloud's limit for a request to a function
MAX_BUFFERED_BYTES = 4 * MAX_BODY_BYTES
BODY_SECONDS = 15.0  # the sender does not wait longer for an answer
_DRAINED_BYTES = 2 * MAX_BODY_BYTES


class BodyError(Exception):
    """The body could not be read."""


class BodyTooLargeError(BodyError):
    """The body is over MAX_BODY_BYTES."""


class BuffersFullError(BodyError):
    """All bodies together are over MAX_BUFFERED_BYTES."""


class SlowBodyError(BodyError):
    """The body did not arrive within BODY_SECONDS."""


class IncompleteBodyError(BodyError):
    """The connection ended before the body did."""


class BodyBuffers:
    """The memory that all requests of the process share for their bodies."""

    def __init__(self) -> None:
        self._held_bytes = 0

    async def read(self, stream: AsyncIterator[bytes]) -> bytes:
        """The body of a request. Pass it to `release` once it is no longer needed.

        Raises:
            BodyError: one of its subclasses; no memory is held then. After BodyTooLargeError and
                BuffersFullError the caller has to `drain` the stream.
        """
        body = bytearray()
        try:
            await self._fill(body, stream)
        except BaseException:
            self.release(body)
            raise
        return bytes(body)

    async def _fill(self, body: bytearray, stream: AsyncIterator[bytes]) -> None:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in stream:
                    body += chunk
                    self._held_bytes += len(chunk)
                    if len(body) > MAX_BODY_BYTES:
                        raise BodyTooLargeError
                    if self._held_bytes > MAX_BUFFERED_BYTES:
                        raise BuffersFullError
        except ClientDisconnect:
            raise IncompleteBodyError from None
        except TimeoutError:
            raise SlowBodyError from None

    def release(self, body: bytes | bytearray) -> None:
        """Release the memory of a body."""
        self._held_bytes -= len(body)


async def drain(stream: AsyncIterator[bytes]) -> None:
    """Read the rest of a refused body, so that the sender gets the answer and not a reset."""
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in stream:
                size += len(chunk)
                if size > _DRAINED_BYTES:
                    return
    except (ClientDisconnect, TimeoutError):
        return
