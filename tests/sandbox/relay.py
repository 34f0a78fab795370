"""A TCP relay that can be cut: how a server goes out of reach without losing what it holds."""

import asyncio


class Relay:
    """Passes connections on to a port of loopback until it is cut, and again once it is mended."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._swallowed: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """Relay (if it does not yet); return the port, the same one after every cut."""
        if self._server:
            return self._port
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self._port

    async def cut(self) -> None:
        """Refuse new connections and break those that there are."""
        if self._server:
            self._server.close()
        for writer in self._connections:
            writer.transport.abort()
        if self._server:
            await self._server.wait_closed()
            self._server = None

    def swallow(self) -> None:
        """Let nothing through any more on the connections that there are, and break none."""
        for writer in self._connections:
            self._swallowed.add(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
                if writer not in self._swallowed:
                    writer.write(chunk)
                    await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
