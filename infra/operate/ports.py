"""Ports on loopback."""

import socket
from collections.abc import Mapping

from operate.console import UsageError


def is_free(port: int) -> bool:
    """Whether a server could listen on the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def read_port(settings: Mapping[str, str], name: str, default: str) -> int:
    """The port that a setting names.

    Raises:
        UsageError: it is not a port, or another program uses it.
    """
    text = settings.get(name) or default
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise UsageError(f"{name}={text} is not a port: use a number from 1 to 65535.")
    if not is_free(int(text)):
        raise UsageError(
            f"Port {text} is busy: stop the program that uses it, or choose another one with"
            f" {name}=..."
        )
    return int(text)
