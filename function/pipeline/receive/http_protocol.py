"""HTTP/1.1 as uvicorn reads it with httptools, except for upgrades and trailers.

Java's HTTP client and `curl --http2` offer one with their first request (`Upgrade: h2c`), which a
server may ignore (RFC 9110, 7.8). httptools takes such a request to end with its headers, so its
body would be lost. It passes the trailers of a chunked body on as headers, which they must not
become (RFC 9110, 6.5.1): no proxy has checked them.
"""

from collections.abc import Iterator

import httptools
import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def use() -> None:
    """Let every server of this process that is started from now on read HTTP with it."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{HttpProtocol.__name__}"


class HttpProtocol(HttpToolsProtocol):
    """One connection of the server."""

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with what has arrived."""
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _parse(self, data: bytes) -> None:
        unread = memoryview(data)
        while unread:
            try:
                self.parser.feed_data(unread)
            except httptools.HttpParserUpgrade as upgrade:
                if not self._offers_upgrade():
                    return
                (head_end,) = upgrade.args
                head = b"".join(self._head_without_upgrade())
                self._renew_parser()
                self.parser.feed_data(head)
                unread = unread[head_end:]
            else:
                return

    def _renew_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def on_headers_complete(self) -> None:
        """Called by the parser, also for a head that offers an upgrade and is parsed again."""
        if not self._offers_upgrade():
            super().on_headers_complete()
            self.headers = []  # another list than the request's, for the trailers

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if not self._offers_upgrade():
            super().on_message_complete()

    def _offers_upgrade(self) -> bool:
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _head_without_upgrade(self) -> Iterator[bytes]:
        version = self.parser.get_http_version().encode()
        yield b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, version)
        for name, value in self.headers:
            if name != b"upgrade":
                yield b"%s: %s\r\n" % (name, value)
        yield b"\r\n"
