"""Connections whose responses have a deadline, and not only each read from the socket.

A socket's timeout begins again with every byte, so a server that sends byte by byte could hold a
thread for hours. Here the connection is closed at the deadline instead.
"""

import contextlib
import heapq
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

PoolClasses = dict[str, type[HTTPConnectionPool]]  # by scheme

_INCOMPLETE = "the response was not complete at its deadline"


class DeadlineAdapter(HTTPAdapter):
    """An adapter whose requests end within `response_deadline`."""

    def direct_pool_classes(self) -> PoolClasses:
        """Those of the connections that do not go through a proxy."""
        return _POOL_CLASSES

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Called by the base class."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self.direct_pool_classes()

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Called by the base class."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOL_CLASSES
        return manager


def pool_classes(http: type[HTTPConnection], https: type[HTTPSConnection]) -> PoolClasses:
    """Pools of these connections."""
    return {
        "http": type("HttpPool", (HTTPConnectionPool,), {"ConnectionCls": http}),
        "https": type("HttpsPool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
    }


@contextlib.contextmanager
def response_deadline(end: float) -> Iterator[None]:
    """Until when (monotonic seconds) the responses in this block have to be complete.

    Raises:
        TimeoutError: one was not; its connection was closed, and what was read is incomplete.
    """
    _of_thread.deadline, _of_thread.numbers = end, []
    try:
        yield
    finally:
        del _of_thread.deadline
        removed = [_closer.remove(number) for number in _of_thread.numbers]
        if not all(removed):
            raise TimeoutError(_INCOMPLETE)


class _Closer:
    """Shuts sockets down at their deadlines, in one thread for the whole process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._deadlines: list[tuple[float, int]] = []
        self._sockets: dict[int, socket.socket] = {}
        self._thread: threading.Thread | None = None

    def add(self, connected: socket.socket, deadline: float) -> int:
        """Shut the socket down at the deadline; the result is for `remove`."""
        with self._changed:
            number = next(self._numbers)
            self._sockets[number] = connected
            heapq.heappush(self._deadlines, (deadline, number))
            if self._deadlines[0][1] == number:
                self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="closer")
                self._thread.start()
            return number

    def remove(self, number: int) -> bool:
        """Leave the socket open; False where it has been shut down."""
        with self._changed:
            return self._sockets.pop(number, None) is not None

    def is_open(self, number: int) -> bool:
        """Whether the socket has not been shut down."""
        with self._changed:
            return number in self._sockets

    def _run(self) -> None:
        with self._changed:
            while True:
                while self._deadlines and self._deadlines[0][1] not in self._sockets:
                    heapq.heappop(self._deadlines)
                if not self._deadlines:
                    self._changed.wait()
                    continue
                deadline, number = self._deadlines[0]
                if (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                    continue
                _shut_down(self._sockets.pop(number))


def _shut_down(connected: socket.socket) -> None:
    # Not the TLS socket's own method, which another thread is using. TLS within TLS has no socket.
    plain = getattr(connected, "socket", connected)
    with contextlib.suppress(OSError, TypeError):  # it may be closed already
        socket.socket.shutdown(plain, socket.SHUT_RDWR)


class _DeadlineMixin(HTTPConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3
        self._close_at_deadline()
        return super().getresponse()

    def _tunnel(self) -> None:
        """Called by the base class, to ask a proxy for a connection and read its response."""
        number = self._close_at_deadline()
        super()._tunnel()
        # The end of the connection looks like the end of the proxy's response.
        if number is not None and not _closer.is_open(number):
            raise TimeoutError(_INCOMPLETE)

    def _close_at_deadline(self) -> int | None:
        """Its number for the closer; None where there is no deadline."""
        deadline = getattr(_of_thread, "deadline", None)
        if deadline is None or self.sock is None:
            return None
        number = _closer.add(self.sock, deadline)
        _of_thread.numbers.append(number)
        return number


class DeadlineHttpConnection(_DeadlineMixin, HTTPConnection):
    """A connection whose responses end within `response_deadline`."""


class DeadlineHttpsConnection(_DeadlineMixin, HTTPSConnection):
    """The same with TLS."""


_POOL_CLASSES = pool_classes(DeadlineHttpConnection, DeadlineHttpsConnection)
_of_thread = threading.local()
_closer = _Closer()
