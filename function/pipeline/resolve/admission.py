"""Bounds the memory of a process: how many bytes of event bodies it resolves at once.

A body takes about ten times its size while it is resolved. Bodies of at most SMALL_BODY_BYTES are
admitted at once and not counted, so they never wait for a large one. Larger bodies are admitted
strictly in the order of their arrival, so none of them waits forever.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator

from pipeline.deadline import Deadline
from pipeline.logs import log
from pipeline.store.states import NOT_ADMITTED

MAX_ADMITTED_BYTES = 32 * 1024 * 1024  # the largest body that a function can receive
SMALL_BODY_BYTES = 1024 * 1024
_POLL_SECONDS = 0.25  # how soon a waiting body notices that the server is asked to stop


class NotAdmittedError(Exception):
    """The attempt's time was over before its body was admitted."""


class Admission:
    """Admits bodies of at most MAX_ADMITTED_BYTES together; a larger one is admitted alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()  # one token for each body, in order of arrival
        self._admitted_bytes = 0

    @contextlib.contextmanager
    def admit(self, size: int, deadline: Deadline) -> Iterator[None]:
        """Wait until a body of this size is admitted; it counts until the block is left.

        Raises:
            NotAdmittedError: it was not admitted before the deadline.
        """
        if size <= SMALL_BODY_BYTES:
            yield
            return
        self._wait(size, deadline)
        try:
            yield
        finally:
            with self._changed:
                self._admitted_bytes -= size
                self._changed.notify_all()

    def _wait(self, size: int, deadline: Deadline) -> None:
        token = object()
        with self._changed:
            self._waiting.append(token)
            try:
                if not self._is_next(token, size):
                    log("DEBUG", "large event waits", bytes=size)
                while not self._is_next(token, size):
                    if not deadline.remaining:
                        raise NotAdmittedError(
                            f"{NOT_ADMITTED} other large events were resolved,"
                            f" and {deadline.reason}"
                        )
                    self._changed.wait(min(deadline.remaining, _POLL_SECONDS))
                self._admitted_bytes += size
            finally:
                self._waiting.remove(token)
                self._changed.notify_all()

    def _is_next(self, token: object, size: int) -> bool:
        fits = not self._admitted_bytes or self._admitted_bytes + size <= MAX_ADMITTED_BYTES
        return fits and self._waiting[0] is token
