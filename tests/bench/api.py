"""A minimal Dimmy API for load tests: it knows every id and responds after a fixed delay.

The sandbox's own API has faults and pages and is slower than the software to be measured.

    python -m bench.api PORT SECONDS
"""

import asyncio
import json
import sys
from typing import Any

import uvloop

from sandbox.catalogue import VENDOR_EXAMPLE

_BEFORE, _AFTER = (
    json.dumps(VENDOR_EXAMPLE, separators=(",", ":"))
    .encode()
    .split(str(VENDOR_EXAMPLE["_id"]).encode(), maxsplit=1)
)


class _Api(asyncio.Protocol):
    delay = 0.0
    calls = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            request, _, self._received = self._received.partition(b"\r\n\r\n")
            item_id = request[len(b"GET /items/") : request.index(b" ", 5)]
            if request.startswith(b"GET /calls "):
                self._answer(str(_Api.calls).encode())
            else:
                _Api.calls += 1
                body = _BEFORE + item_id + _AFTER
                asyncio.get_running_loop().call_later(_Api.delay, self._answer, body)

    def _answer(self, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )


async def serve(port: int, delay: float) -> None:
    """Serve on loopback until killed; each response follows `delay` seconds after its request."""
    _Api.delay = delay
    server = await asyncio.get_running_loop().create_server(_Api, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2])))
