"""Serves an aiohttp application on loopback, for the servers that stand in for the cloud."""

import asyncio
import socket
import ssl

from aiohttp import web

from sandbox.processes import free_port


class WebServer:
    """A server that accepts connections. Start and stop it in the same event loop."""

    def __init__(self, listening: socket.socket, runner: web.AppRunner) -> None:
        self._socket = listening
        self._runner = runner
        self.port: int = listening.getsockname()[1]

    @classmethod
    async def start(
        cls,
        app: web.Application,
        port: int = 0,
        certificate: ssl.SSLContext | None = None,
        shutdown_seconds: float = 1,
    ) -> "WebServer":
        """Serve on this port, or on a free one; requests may end in `shutdown_seconds` at the end.

        Raises:
            OSError: the port is not free.
        """
        # A port that the kernel chose could be a client's when the server is started again.
        listening = socket.create_server(("127.0.0.1", port or free_port()))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_seconds)
        await runner.setup()
        await web.SockSite(runner, listening, ssl_context=certificate).start()
        return cls(listening, runner)

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        # asyncio never closes a connection whose acceptance has begun when its server is closed
        # (https://github.com/python/cpython/issues/109564). So begin none, and let those end first.
        asyncio.get_running_loop().remove_reader(self._socket)
        await asyncio.sleep(0)
        await self._runner.cleanup()
