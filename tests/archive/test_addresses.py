"""Which addresses of photos are fetched, and under which names the photos are stored.

One of them: .venv/bin/pytest tests/archive/test_addresses.py -k hostile
"""

import ipaddress
import re
import socket
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from pipeline.archive.addresses import (
    Address,
    LookupFailedError,
    NotAllowedError,
    is_public,
    look_up,
    parse_photo_hosts,
    read_address,
)
from pipeline.archive.photos import is_name, name_of, photos_of
from pipeline.archive.settings import read_archive_settings
from pipeline.environment import SettingsError
from sandbox.catalogue import VENDOR_EXAMPLE

HOST = "dimmy.s3.amazonaws.com"
ORIGINS = parse_photo_hosts(f"{HOST} http://127.0.0.1:9000")
VENDOR_URL = VENDOR_EXAMPLE["photographing"][0]["photos"][0]["url"]

anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)
urls = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["https://", "HTTPS://", "http://", "//", "https:/", "", "ftp://"]),
    st.sampled_from(["", "user@", "u:p@", "evil.example#@", "evil.example\\@"]),
    st.sampled_from([HOST, HOST.upper(), f"{HOST}.", "evil.example", f"{HOST}.evil.example", ""]),
    st.sampled_from(["", ":443", ":80", ":x", ":"]),
    st.text(st.characters(codec="utf-8"), max_size=20).map("/{}".format) | st.just(""),
)


def test_the_vendors_example_is_allowed_by_default() -> None:
    settings = read_archive_settings({"STORAGE_URL": "gs://acme-scans"})

    address = read_address(VENDOR_URL, settings.photo_origins)

    assert address.url == VENDOR_URL
    assert name_of(VENDOR_URL) == "7e1b7a96fc4df518-67c861dc45b0e6fb32ff2ca1"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (f"https://{HOST}/a/b.jpg", f"https://{HOST}/a/b.jpg"),
        (f"https://{HOST.upper()}/A?b=%2F&c", f"https://{HOST}/A?b=%2F&c"),
        (f"HTTPS://{HOST}:443/a#part", f"https://{HOST}/a"),
        (f"https://{HOST}", f"https://{HOST}/"),
        ("http://127.0.0.1:9000/a", "http://127.0.0.1:9000/a"),
    ],
)
def test_an_allowed_address_is_requested_without_its_fragment(text: str, url: str) -> None:
    assert read_address(text, ORIGINS).url == url


HOSTILE = {
    f"http://{HOST}/a": "does not begin with https://",
    f"ftp://{HOST}/a": "does not begin with https://",
    f"//{HOST}/a": "does not begin with https://",
    "file:///etc/passwd": "does not begin with https://",
    "javascript:alert(1)": "does not begin with https://",
    "http://127.0.0.1:9001/a": "does not begin with https://",
    "http://127.0.0.1/a": "does not begin with https://",
    "http://169.254.169.254/computeMetadata/v1/": "does not begin with https://",
    "https://169.254.169.254/": "is not on a host of PHOTO_HOSTS: 169.254.169.254",
    "https://evil.example/a": "is not on a host of PHOTO_HOSTS: evil.example",
    f"https://{HOST}.evil.example/a": "is not on a host of PHOTO_HOSTS: ",
    f"https://evil-{HOST}/a": "is not on a host of PHOTO_HOSTS: ",
    f"https://a.{HOST}/a": "is not on a host of PHOTO_HOSTS: ",
    f"https://{HOST}./a": "is not on a host of PHOTO_HOSTS: ",
    f"https://{HOST}%2eevil.example/a": "is not on a host of PHOTO_HOSTS: ",
    f"https:{HOST}/a": "is not on a host of PHOTO_HOSTS: ",
    f"https://user@{HOST}/a": "has a user name",
    f"https://user:password@{HOST}/a": "has a user name",
    f"https://{HOST}@evil.example/a": "has a user name",
    f"https://evil.example\\@{HOST}/a": "has a character that no URL has",
    f"https://{HOST}/a\r\nX-Injected: 1": "has a character that no URL has",
    f"https://{HOST}/a b": "has a character that no URL has",
    f" https://{HOST}/a": "has a character that no URL has",
    f"https://{HOST}/\u00e4": "has a character that no URL has",
    f"https://{HOST.replace('m', chr(0xFF4D))}/a": "has a character that no URL has",
    f"https://{HOST}:8443/a": "has another port than 443",
    f"https://{HOST}:443x/a": "is not a URL",
    "https://[::1/a": "is not a URL",
    f"https://{HOST}/{'a' * 5000}": "has more than 4096 characters",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_address_is_not_allowed(text: str) -> None:
    with pytest.raises(NotAllowedError, match=re.escape(HOSTILE[text])):
        read_address(text, ORIGINS)


@given(urls | anything)
def test_whatever_is_allowed_leads_to_an_allowed_host_for_every_parser(text: object) -> None:
    try:
        address = read_address(text, ORIGINS)
    except NotAllowedError:
        return

    assert address.origin == f"https://{HOST}"
    for host, scheme, port in (
        (urlsplit(address.url).hostname, urlsplit(address.url).scheme, urlsplit(address.url).port),
        (parse_url(address.url).host, parse_url(address.url).scheme, parse_url(address.url).port),
    ):
        assert (host, scheme, port) == (HOST, "https", None)


@given(anything)
def test_a_redirect_leads_to_an_allowed_host_or_nowhere(location: object) -> None:
    address = Address(f"https://{HOST}", "/a/b")
    try:
        redirected = address.redirected(str(location), ORIGINS)
    except NotAllowedError:
        return

    assert redirected.origin in ORIGINS


@given(urls | anything)
def test_a_name_is_safe_whatever_the_address(address: object) -> None:
    name = name_of(address)

    assert is_name(name)
    assert re.fullmatch(r"[0-9a-f]{16}(-[A-Za-z0-9][A-Za-z0-9._-]{0,127})?", name)
    assert name == name_of(address)


@given(st.lists(st.text(st.sampled_from("ab/.%-"), min_size=1, max_size=4), unique=True))
def test_other_paths_have_other_names_also_if_their_last_parts_are_equal(paths: list[str]) -> None:
    names = {name_of(f"https://{HOST}/{path}/photo.jpg") for path in paths}

    assert len(names) == len(paths)


@given(st.text(st.sampled_from("ab=%2F?"), max_size=10), st.text(st.sampled_from("ab/?#")))
def test_a_name_does_not_depend_on_the_signature(signature: str, fragment: str) -> None:
    address = f"{VENDOR_URL}?Signature={signature}&expires=1#{fragment}"

    assert name_of(address) == name_of(VENDOR_URL)


@pytest.mark.parametrize(
    ("path", "ending"),
    [
        ("a/photo.jpg", "-photo.jpg"),
        ("a/..", ""),
        ("a/.hidden", ""),
        ("a/", ""),
        ("a/b%2f..%2fc", ""),
        (f"a/{'b' * 128}", f"-{'b' * 128}"),
        (f"a/{'b' * 129}", ""),
    ],
)
def test_only_a_safe_last_part_of_the_path_becomes_part_of_the_name(path: str, ending: str) -> None:
    assert name_of(f"https://{HOST}/{path}")[16:] == ending


@given(st.dictionaries(st.sampled_from(["photographing", "_id"]), anything))
def test_whatever_an_item_contains_its_photos_can_be_read(item: dict[str, object]) -> None:
    for photo in photos_of(item):
        assert is_name(photo.name)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        (HOST, (f"https://{HOST}",)),
        (f"{HOST}, Photos.Example.com\n{HOST}", (f"https://{HOST}", "https://photos.example.com")),
        ("http://127.0.0.1:9000 a.b-c.io", ("http://127.0.0.1:9000", "https://a.b-c.io")),
    ],
)
def test_photo_hosts_are_separated_like_allowed_sources(
    text: str, origins: tuple[str, ...]
) -> None:
    assert parse_photo_hosts(text) == origins


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        "*.amazonaws.com",
        "localhost",
        "10.0.0.1",
        "[::1]",
        f"https://{HOST}",
        f"{HOST}/",
        f"{HOST}:443",
        f"user@{HOST}",
        f"{HOST}.",
        "http://10.0.0.1:80",
        "http://127.0.0.1",
        "http://127.0.0.1:0",
        "http://127.0.0.1:70000",
        "https://127.0.0.1:9000",
    ],
)
def test_an_entry_of_photo_hosts_that_is_no_host_is_named(entry: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_archive_settings({"PHOTO_HOSTS": f"{entry} ,", "ATTEMPT_SECONDS": "x"})

    assert [problem.split()[0] for problem in error.value.problems] == [
        "PHOTO_HOSTS",
        "STORAGE_URL",
        "ATTEMPT_SECONDS",
    ]
    assert entry in error.value.problems[0]


def test_photo_hosts_without_an_entry_are_reported() -> None:
    with pytest.raises(SettingsError, match="PHOTO_HOSTS names no host"):
        read_archive_settings({"PHOTO_HOSTS": " , ", "STORAGE_URL": "gs://acme-scans"})


PRIVATE = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::10.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::10.0.0.1",
    "2001::1",
    "2001:db8::1",
    "2002:a00:1::1",
    "fc00::1",
    "fd20:ce::254",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["52.216.8.1", "2600:1f18::1", "::ffff:52.216.8.1", "64:ff9b::52.216.8.1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_recognised(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_recognised(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_within_ipv6_is_as_private_as_by_itself(
    address: ipaddress.IPv4Address,
) -> None:
    within = [f"::ffff:{address}", f"64:ff9b::{address}", f"2002:{int(address):08x}"]
    within[2] = f"{within[2][:9]}:{within[2][9:]}::1"

    assert {is_public(each) for each in within} == {is_public(str(address))}


def answer_with(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name have these addresses."""
    kind = socket.SOCK_STREAM
    found = [(socket.AF_INET, kind, 6, "", (address, 443)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_only_public_addresses_of_a_host_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, "10.0.0.1", "52.216.8.1", "127.0.0.1", "52.216.8.1")

    assert look_up(HOST, 443) == ["52.216.8.1"]


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "fd20:ce::254"])
def test_a_host_with_private_addresses_only_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    answer_with(monkeypatch, address)

    with pytest.raises(LookupFailedError, match=f"{HOST} has no public address"):
        look_up(HOST, 443)


def test_this_machine_has_to_be_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, "10.0.0.1", "::1", "127.0.0.1")

    assert look_up("localhost", 9000) == ["::1", "127.0.0.1"]


def test_a_host_that_does_not_exist_is_reported() -> None:
    with pytest.raises(LookupFailedError, match=r"a\.invalid has no address: gaierror"):
        look_up("a.invalid", 443)


@pytest.mark.parametrize(
    "query",
    ["X-Amz-Date=1&X-Amz-Signature=a", "Expires=7&Signature=b&AWSAccessKeyId=c", "sig=d&se=e", ""],
)
def test_a_signature_does_not_change_the_name(query: str) -> None:
    assert name_of(f"{VENDOR_URL}?{query}") == name_of(VENDOR_URL)


def test_photos_that_differ_in_a_parameter_have_names_of_their_own() -> None:
    addresses = [
        f"https://{HOST}/download?id=1",
        f"https://{HOST}/download?id=2&Signature=a",
        f"https://{HOST}/download",
    ]
    item = {"photographing": [{"photos": [{"url": address} for address in addresses]}]}

    assert [photo.address for photo in photos_of(item)] == addresses


def test_nothing_of_a_query_is_in_a_name_even_if_the_address_is_malformed() -> None:
    assert "SECRET" not in name_of("https://[x/p?sig=a/SECRET")
    assert "SECRET" not in name_of("https://[x/p#a/SECRET")
