"""The source address of a request, and whether it is allowed."""

import re
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# https://docs.svix.com/receiving/source-ips; Dimmy's documentation lists the IPv4 addresses.
SVIX_SOURCES = {
    "svix-us": ("44.228.126.217 50.112.21.217 52.24.126.164 54.148.139.208 2600:1f24:64:8000::/56"),
    "svix-us-east": "54.164.207.221 54.90.7.123 2600:1f28:37:4000::/56",
    "svix-eu": "52.215.16.239 54.216.8.72 63.33.109.123 2a05:d028:17:8000::/56",
}


def parse(text: str) -> tuple[Network, ...]:
    """Addresses, CIDR ranges and names of Svix's regions, separated by spaces or commas.

    Raises:
        ValueError: the text has no entries, or one that is none of these.
    """
    entries = text.replace(",", " ").split()
    if not entries:
        raise ValueError("has no entries: leave it out to allow any source, or list the sources")
    networks: list[Network] = []
    for number, entry in enumerate(entries, start=1):
        try:
            networks += map(ip_network, SVIX_SOURCES.get(entry.lower(), entry).split())
        except ValueError as error:
            # An entry with other characters may be a secret by mistake.
            detail = f": {error}" if re.fullmatch(r"[0-9A-Fa-f.:/]+", entry) else ""
            raise ValueError(
                f"has an entry, number {number} of {len(entries)}, that is neither an address nor a"
                f" CIDR range nor one of {', '.join(SVIX_SOURCES)}{detail}"
            ) from None
    return tuple(networks)


def client_address(forwarded_for: str, peer: str | None, trusted_hops: int) -> Address | None:
    """The address that the nearest trusted proxy saw, or None where it is unknown.

    Each proxy appends the address of its caller to X-Forwarded-For, so only the last
    `trusted_hops` entries come from our own proxies; a caller can forge those before them. With 0
    trusted hops the header is ignored.
    """
    if trusted_hops == 0:
        claimed = peer or ""
    else:
        entries = forwarded_for.split(",")
        claimed = entries[-trusted_hops].strip() if len(entries) >= trusted_hops else ""
    try:
        address = ip_address(claimed)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def is_allowed(address: Address | None, allowed: Sequence[Network]) -> bool:
    """Whether the address is in the list. An empty list allows any address."""
    return not allowed or (address is not None and any(address in network for network in allowed))
