"""Source addresses: which one a request has, and which ones are allowed.

One of them: .venv/bin/pytest tests/receive/test_sources.py -k mapped
"""

from ipaddress import ip_address

import pytest

from pipeline.receive import sources


@pytest.mark.parametrize(
    ("forwarded_for", "hops", "expected"),
    [
        ("52.24.126.164", 1, "52.24.126.164"),
        ("1.2.3.4, 52.24.126.164", 1, "52.24.126.164"),
        ("1.2.3.4, 52.24.126.164, 35.191.0.1", 2, "52.24.126.164"),
        ("1.2.3.4,52.24.126.164", 0, "127.0.0.1"),
        ("2600:1f24:64:8000::5", 1, "2600:1f24:64:8000::5"),
        pytest.param("::ffff:52.24.126.164", 1, "52.24.126.164", id="ipv4-mapped"),
        ("52.24.126.164", 2, None),
        ("", 1, None),
        ("unknown", 1, None),
        ("52.24.126.164:443", 1, None),
    ],
)
def test_the_client_address_is_the_one_the_nearest_trusted_proxy_saw(
    forwarded_for: str, hops: int, expected: str | None
) -> None:
    address = sources.client_address(forwarded_for, "127.0.0.1", hops)

    assert address == (ip_address(expected) if expected else None)


@pytest.mark.parametrize(
    ("allowed", "address", "expected"),
    [
        ("svix-us", "52.24.126.164", True),
        ("svix-us", "2600:1f24:64:80ff::1", True),
        ("svix-us", "2600:1f24:64:8100::1", False),
        ("svix-us", "52.215.16.239", False),
        ("svix-us svix-eu", "52.215.16.239", True),
        ("SVIX-EU", "2a05:d028:17:8000::9", True),
        ("10.0.0.0/8,192.168.1.1", "10.200.3.4", True),
        ("10.0.0.0/8,192.168.1.1", "192.168.1.2", False),
    ],
)
def test_only_listed_addresses_are_allowed(allowed: str, address: str, expected: bool) -> None:
    assert sources.is_allowed(ip_address(address), sources.parse(allowed)) is expected


def test_an_unknown_address_is_allowed_only_without_a_list() -> None:
    assert not sources.is_allowed(None, sources.parse("0.0.0.0/0 ::/0"))
    assert sources.is_allowed(None, ())
