"""Senders of requests that are not signed: large, slow, unfinished, and many at a time."""

import http.client
import json
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any, Protocol

from pipeline.receive.body import MAX_BODY_BYTES
from sandbox.svix_sender import SvixSender, new_message


class Receiver(Protocol):
    """A `receive`, and a sender whose headers look like those of its webhooks."""

    @property
    def port(self) -> int: ...

    @property
    def sender(self) -> SvixSender: ...


class OpenRequest:
    """A request whose body comes in parts, or never to its end."""

    def __init__(self, receive: Receiver, size: int | None, **headers: str) -> None:
        """With a size of None, the body is chunked."""
        self._socket = socket.create_connection(("127.0.0.1", receive.port), timeout=60)
        self._is_chunked = size is None
        framing = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
        signed = receive.sender.sign(new_message(b"another body")) | headers
        lines = [f"{name}: {value}\r\n" for name, value in signed.items()]
        head = f"POST / HTTP/1.1\r\nHost: x\r\n{''.join(lines)}{framing}\r\n\r\n"
        self._socket.sendall(head.encode())

    def send(self, part: bytes) -> None:
        self._socket.sendall(b"%x\r\n%b\r\n" % (len(part), part) if self._is_chunked else part)

    def send_or_give_up(self, part: bytes) -> None:
        """Send what the server takes, until the connection is closed."""
        with suppress(OSError):
            self.send(part)

    def answer(self) -> tuple[int, str, dict[str, Any]]:
        """Its status, its Connection header, and its body."""
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        body = json.loads(response.read() or b"{}")
        return response.status, response.headers.get("Connection", ""), body

    def close(self) -> None:
        # Not close alone, which does not end a sendall of another thread.
        with suppress(OSError):  # the server may have been faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class UnsignedRequests:
    """Opens requests that are not signed. `cleanup` closes all of their connections."""

    def __init__(self, cleanup: ExitStack) -> None:
        self._cleanup = cleanup
        self.threads = cleanup.enter_context(ThreadPoolExecutor(128))

    def open(self, receive: Receiver, size: int | None, **headers: str) -> OpenRequest:
        request = OpenRequest(receive, size, **headers)
        self._cleanup.callback(request.close)
        return request

    def send(
        self, receive: Receiver, size: int | None, part: bytes
    ) -> tuple[OpenRequest, Future[None]]:
        """Open a request, and send a part of its body in a thread."""
        request = self.open(receive, size)
        return request, self.threads.submit(request.send_or_give_up, part)

    def stall(self, receive: Receiver, count: int) -> list[OpenRequest]:
        """Let this many requests each send 32 MiB less a byte, and wait."""
        part = b"x" * (MAX_BODY_BYTES - 1)
        return [self.send(receive, MAX_BODY_BYTES, part)[0] for _ in range(count)]
