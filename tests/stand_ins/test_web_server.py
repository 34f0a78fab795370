"""The server of the stand-ins ends every connection that it has accepted.

One of them: .venv/bin/pytest tests/stand_ins/test_web_server.py
"""

import asyncio
import gc
import socket

import pytest
from aiohttp import web

from sandbox.web_server import WebServer


@pytest.mark.parametrize("iterations", range(8))
def test_a_connection_that_arrives_while_the_server_stops_is_closed(iterations: int) -> None:
    """Whatever step its acceptance is at. Pytest reports a connection that is left open."""

    async def connect_and_stop() -> bytes:
        server = await WebServer.start(web.Application())
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.setblocking(False)
            for _ in range(iterations):
                await asyncio.sleep(0)
            await server.stop()
            try:
                return await asyncio.get_running_loop().sock_recv(client, 1)
            except ConnectionResetError:
                return b""

    for _ in range(3):
        assert asyncio.run(asyncio.wait_for(connect_and_stop(), 60)) == b""
    gc.collect()
