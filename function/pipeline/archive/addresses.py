"""Decides which addresses of photos are fetched. They are untrusted: anyone may have written them.

An address is fetched if its scheme and host are an origin of PHOTO_HOSTS, and if it has neither a
user name nor another port. What is sent is put together from its checked parts, so that no other
parser can read another host in it.
"""

import ipaddress
import re
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

DEFAULT_HOST = "dimmy.s3.amazonaws.com"

_MAX_CHARACTERS = 4096
_SHOWN_CHARACTERS = 100
_PRINTABLE = re.compile(r"[!-~]+")  # of ASCII, without the space
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"({_LABEL}\.)+[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?")
_LOOPBACK_ORIGIN = re.compile(r"http://(localhost|127\.0\.0\.1):[0-9]{1,5}")

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotAllowedError(ValueError):
    """The address is not fetched, now or later; the text is why."""


class LookupFailedError(Exception):
    """No address of a host can be connected to now; the text is why."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address that is allowed. `origin` is one of PHOTO_HOSTS, `path` begins with a slash.

    The query may be a signature that gives access to the photo: it belongs in no log and no name.
    """

    origin: str
    path: str
    query: str = ""

    @property
    def url(self) -> str:
        """What is requested."""
        return f"{self.origin}{self.path}" + (f"?{self.query}" if self.query else "")

    def redirected(self, location: str, origins: Collection[str]) -> "Address":
        """Where the `Location` of a response leads.

        Raises:
            NotAllowedError: to an address that is not allowed.
        """
        try:
            target = urljoin(self.url, location)
        except ValueError:
            target = ""
        return read_address(target, origins)


def parse_photo_hosts(text: str) -> tuple[str, ...]:
    """PHOTO_HOSTS as origins: hosts, separated by spaces, commas or newlines.

    An origin on this machine, such as `http://127.0.0.1:9000`, is allowed for the sandbox.

    Raises:
        ValueError: says which entry is wrong.
    """
    origins: dict[str, None] = {}
    for entry in filter(None, re.split(r"[\s,]+", text)):
        host = entry.lower()
        if _LOOPBACK_ORIGIN.fullmatch(host) and 0 < int(host.rpartition(":")[2]) < 65536:
            origins[host] = None
        elif _HOST.fullmatch(host) and len(host) <= 253:
            origins[f"https://{host}"] = None
        else:
            raise ValueError(
                f"has an entry that is not the name of a host, such as {DEFAULT_HOST}:"
                f" {entry[:_SHOWN_CHARACTERS]}"
            )
    if not origins:
        raise ValueError("names no host")
    return tuple(origins)


def read_address(text: object, origins: Collection[str]) -> Address:
    """The address in an item.

    Raises:
        NotAllowedError: it is not allowed.
    """
    if not isinstance(text, str) or not text:
        raise NotAllowedError("is not a text")
    if len(text) > _MAX_CHARACTERS:
        raise NotAllowedError(f"has more than {_MAX_CHARACTERS} characters")
    # Parsers disagree about some of the others.
    if not _PRINTABLE.fullmatch(text) or "\\" in text:
        raise NotAllowedError("has a character that no URL has")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise NotAllowedError("is not a URL") from None
    if "@" in parts.netloc:
        raise NotAllowedError("has a user name")
    host = parts.hostname or ""
    scheme = parts.scheme
    if scheme == "https" and port not in {None, 443}:
        raise NotAllowedError("has another port than 443")
    origin = f"{scheme}://{host}" if scheme == "https" else f"{scheme}://{host}:{port}"
    if origin not in origins:
        if scheme != "https":
            raise NotAllowedError("does not begin with https://")
        raise NotAllowedError(f"is not on a host of PHOTO_HOSTS: {host[:_SHOWN_CHARACTERS]}")
    return Address(origin, parts.path or "/", parts.query)


def look_up(host: str, port: int) -> Sequence[str]:
    """The IP addresses of a host; a connection must be to one of these.

    Only public ones. localhost and 127.0.0.1 are this machine, where PHOTO_HOSTS lists them.

    Raises:
        LookupFailedError: there is none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise LookupFailedError(f"{host} has no address: {type(error).__name__}") from error
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    if host in {"localhost", "127.0.0.1"}:
        allowed = [each for each in addresses if _read_ip(each).is_loopback]
    else:
        allowed = [each for each in addresses if is_public(each)]
    if not allowed:
        raise LookupFailedError(f"{host} has no public address")
    return allowed


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, also an IPv4 one within IPv6."""
    ip = _read_ip(address)
    if isinstance(ip, ipaddress.IPv6Address):
        is_translated = ip in _NAT64
        translated = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF) if is_translated else None
        return _is_global(ip.ipv4_mapped or ip.sixtofour or translated or ip)
    return _is_global(ip)


def _is_global(ip: _Address) -> bool:
    is_site_local = isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or is_site_local)


def _read_ip(address: str) -> _Address:
    return ipaddress.ip_address(address.partition("%")[0])  # without the zone of a link-local one
