"""A TCP relay that can be interrupted, to make a running server unreachable."""

import asyncio

from sandbox.processes import free_port


class Relay:
    """Forwards connections to a port on loopback between `start` and `cut`."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._port = free_port()  # no client gets it while the relay is cut
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._dropping: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """Start to forward, if stopped; return the port, which stays the same after a cut."""
        if self._server:
            return self._port
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self._port)
        return self._port

    async def cut(self) -> None:
        """Refuse new connections and abort the existing ones."""
        if self._server:
            self._server.close()
        for writer in self._connections:
            writer.transport.abort()
        if self._server:
            await self._server.wait_closed()
            self._server = None

    def drop_data(self) -> None:
        """Keep the existing connections open, but drop their data from now on."""
        for writer in self._connections:
            self._dropping.add(writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._connections.add(upstream[1])
        try:
            await asyncio.gather(self._copy(reader, upstream[1]), self._copy(upstream[0], writer))
        finally:
            self._connections -= {writer, upstream[1]}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                if writer not in self._dropping:
                    writer.write(chunk)
                    await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
