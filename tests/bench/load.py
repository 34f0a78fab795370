"""The load generator: signed webhooks in a closed loop or at a fixed rate, in a separate process.

Every request has its own id and signature. All requests are signed before the measurement, during
which each one costs one write and one read. With `null_server` the limit of the generator itself is
measured.
"""

import argparse
import asyncio
import base64
import gc
import hashlib
import hmac
import json
import math
import secrets
import sys
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from time import perf_counter as now  # the event loop's clock has a resolution of 1 ms
from time import process_time, time, time_ns
from typing import Any
from urllib.parse import urlsplit

import uvloop

PATIENCE_SECONDS = 15.0  # the timeout of Svix
_BYTES_PER_SECOND = 1_500_000_000  # more than any receiver can read


@dataclass(frozen=True)
class Load:
    """What to send. With `rate` (per second) requests are sent at their times, without waiting."""

    url: str
    secret: str = field(repr=False)
    seconds: float
    connections: int = 1
    rate: float | None = None
    items: int = 5  # per event
    body_bytes: int | None = None  # send a full payload of this size instead of item ids
    warm_up: float = 0.3
    at_most_per_second: int = 50_000  # limits the number of prepared requests
    token: str = field(default_factory=lambda: secrets.token_hex(4))


@dataclass
class Result:
    """The responses. Times are in seconds; `cpu_seconds` are those of the generator."""

    requests: int  # answered during the measurement
    answered: int  # including the warm-up
    seconds: float
    cpu_seconds: float
    p50: float
    p99: float
    statuses: dict[str, int]
    sent: list[int] = field(default_factory=list)  # with a rate: nanoseconds since 1970
    answered_in: list[float] = field(default_factory=list)  # with a rate: seconds of each response

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def item_ids(token: str, event: int, count: int) -> list[str]:
    """The ids of the items of an event, in the format of MongoDB."""
    base = f"{token}{event:08x}"
    return [f"{base}{number:08x}" for number in range(count)]


def event_id(token: str, event: int) -> str:
    return f"msg_{token}{event:019d}"


def signed_requests(load: Load, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Head and body of each request."""
    url = urlsplit(load.url)
    key = base64.b64decode(load.secret.removeprefix("whsec_"))
    timestamp = str(int(time()))
    body = b""
    if load.body_bytes is not None:
        frame = b'{"_id":"%s","notes":""}' % (b"0" * 24)
        body = frame[:-2] + b"x" * max(0, load.body_bytes - len(frame)) + frame[-2:]
    for number in range(count):
        if load.body_bytes is None:
            ids = item_ids(load.token, number, load.items)
            body = json.dumps({"item_ids": ids}, separators=(",", ":")).encode()
        name = event_id(load.token, number)
        mac = hmac.new(key, f"{name}.{timestamp}.".encode(), hashlib.sha256)
        mac.update(body)
        signature = base64.b64encode(mac.digest()).decode()
        head = (
            f"POST {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\n"
            "Content-Type: application/json\r\nUser-Agent: Svix-Webhooks/1.99.0\r\nAccept: */*\r\n"
            f"svix-id: {name}\r\nsvix-timestamp: {timestamp}\r\nsvix-signature: v1,{signature}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        yield (head, body) if len(body) > 64 * 1024 else (head + body, b"")


async def generate(load: Load) -> Result:
    """Send the load and wait for the responses."""
    if load.rate:
        return await _at_a_rate(load, load.rate)
    return await _as_fast_as_answered(load)


async def _as_fast_as_answered(load: Load) -> Result:
    count = int((load.warm_up + load.seconds) * load.at_most_per_second)
    if load.body_bytes:  # fewer are needed, and signing them takes long
        count = min(count, int(load.seconds * _BYTES_PER_SECOND / load.body_bytes) + 20)
    waiting = deque(signed_requests(load, count))
    loop = asyncio.get_running_loop()
    gc.freeze()
    begins = now() + load.warm_up
    ends = begins + load.seconds
    times: list[float] = []
    statuses: Counter[str] = Counter()
    cpu = _Cpu(begins, ends)
    ready = len(waiting)

    async def one_connection() -> None:
        _, connection = await loop.create_connection(_Connection, *_address(load))
        while True:  # at least once, even on a slow machine
            if not waiting:
                raise RuntimeError(f"all {count} prepared requests were sent: prepare more")
            started = now()
            status = await connection.send(*waiting.popleft())
            finished = now()
            statuses[status] += 1
            if begins <= started and finished <= ends:
                times.append(finished - started)
            if finished >= ends:
                break
        connection.close()

    await asyncio.gather(*(one_connection() for _ in range(load.connections)))
    return Result(
        requests=len(times),
        answered=ready - len(waiting),
        seconds=load.seconds,
        cpu_seconds=cpu.spent,
        p50=percentile(times, 50),
        p99=percentile(times, 99),
        statuses=dict(statuses),
    )


async def _at_a_rate(load: Load, rate: float) -> Result:
    """Send each request at its time, over an idle connection or a new one."""
    prepared = list(signed_requests(load, round(rate * load.seconds)))
    loop = asyncio.get_running_loop()
    free: list[_Connection] = []
    sent: list[int] = [0] * len(prepared)
    took: list[float] = [math.inf] * len(prepared)
    statuses: Counter[str] = Counter()

    async def one_request(number: int, due: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while free and free[-1].is_closed:
                    free.pop()
                if free:
                    connection = free.pop()
                else:
                    _, connection = await loop.create_connection(_Connection, *_address(load))
                status = await connection.send(*prepared[number])
                took[number] = now() - due
                statuses[status] += 1
                free.append(connection)
        except TimeoutError:
            statuses["timeout"] += 1
        except OSError as error:
            statuses[type(error).__name__] += 1

    gc.freeze()
    begins = now() + 0.05
    cpu = _Cpu(begins, begins + load.seconds)
    async with asyncio.TaskGroup() as tasks:
        for number in range(len(prepared)):
            due = begins + number / rate
            await asyncio.sleep(due - now())
            sent[number] = time_ns()
            tasks.create_task(one_request(number, due))
    for connection in free:
        connection.close()
    return Result(
        requests=len(prepared),
        answered=len(prepared),
        seconds=load.seconds,
        cpu_seconds=cpu.spent,
        p50=percentile(took, 50),
        p99=percentile(took, 99),
        statuses=dict(statuses),
        sent=sent,
        answered_in=[seconds for seconds in took if seconds < math.inf],
    )


def _address(load: Load) -> tuple[str, int]:
    url = urlsplit(load.url)
    return url.hostname or "", url.port or 80


def percentile(values: list[float], percent: float) -> float:
    """The value that this percentage of all values does not exceed; NaN for no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * percent / 100) - 1)]


async def null_server(port: int) -> None:
    """Respond to any data at once, without parsing it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_NullProtocol, "127.0.0.1", port)
    await server.serve_forever()


class _NullProtocol(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, _: bytes) -> None:
        self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


class _Connection(asyncio.Protocol):
    """A connection with one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[str] | None = None
        self.is_closed = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, head: bytes, body: bytes) -> "asyncio.Future[str]":
        """Send a request; the future is the status of the response."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(head)
        if body:
            self._transport.write(body)
        return self._answer

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end or len(rest) < _content_length(head):
            return
        self._received = b""
        if self._answer and not self._answer.done():
            self._answer.set_result(head[9:12].decode())

    def connection_lost(self, _: Exception | None) -> None:
        self.is_closed = True
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())


def _content_length(head: bytes) -> int:
    if head[9:12] == b"204":
        return 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.removeprefix(b"content-length:"))
    raise ValueError("a response without Content-Length")


class _Cpu:
    """The CPU time of this process between two points in time."""

    def __init__(self, begins: float, ends: float) -> None:
        self.spent = 0.0
        loop = asyncio.get_running_loop()
        loop.call_later(begins - now(), self._add, -1)
        loop.call_later(ends - now() - 0.002, self._add, 1)

    def _add(self, sign: int) -> None:
        self.spent += sign * process_time()


def main() -> None:
    """Read a Load as JSON from standard input and print a Result, or run the null server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--null-server", type=int, metavar="PORT")
    port = parser.parse_args().null_server
    if port:
        uvloop.run(null_server(port))
    else:
        load = Load(**json.load(sys.stdin))
        json.dump(asdict(uvloop.run(generate(load))), sys.stdout)


if __name__ == "__main__":
    main()
