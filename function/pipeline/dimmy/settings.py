"""The settings of the client: DIMMY_API_URL, DIMMY_API_KEY and the limits on requests."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pipeline.environment import Environment, seconds, whole_number
from pipeline.http_client.network import Network, read_network

DEFAULT_API_URL = "https://dimmy.api.optioryx.com"

_LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class DimmySettings:
    """`concurrency` is the limit of simultaneous requests of the process.

    `timeout_seconds` is the timeout of one request.
    """

    api_url: str
    api_key: str = field(repr=False)
    concurrency: int
    timeout_seconds: float
    network: Network


def read_dimmy_settings(environment: Environment) -> DimmySettings:
    """The settings of the client."""
    api_url = environment.optional("DIMMY_API_URL", parse_api_url, DEFAULT_API_URL)
    return DimmySettings(
        api_url=api_url,
        api_key=environment.required(
            "DIMMY_API_KEY", parse_api_key, "an API key from Account & Limits in the Dimmy web app"
        ),
        concurrency=environment.optional("DIMMY_CONCURRENCY", whole_number(1, 256), 32),
        timeout_seconds=environment.optional("DIMMY_TIMEOUT_SECONDS", seconds(0.1, 120), 10.0),
        network=read_network(environment, api_url),
    )


def parse_api_key(text: str) -> str:
    """The API key, if it looks like one.

    Raises:
        ValueError: says why it does not; never contains the key.
    """
    if not re.fullmatch(r"[!-~]{8,512}", text) or text[0] in "<\"'":
        raise ValueError(
            "does not look like an API key (8 or more visible characters, no quotes, no <...>)"
        )
    return text


def parse_api_url(text: str) -> str:
    """The API's URL without a slash at its end.

    Raises:
        ValueError: it cannot be used; says why.
    """
    try:
        url = urlsplit(text)
        port_is_valid = url.port is None or url.port > 0
    except ValueError:
        url, port_is_valid = urlsplit(""), False
    if not (url.hostname and port_is_valid) or url.scheme not in {"http", "https"}:
        raise ValueError(f"is not a URL such as {DEFAULT_API_URL}")
    if url.scheme == "http" and url.hostname not in _LOOPBACK_HOSTS:
        raise ValueError("must begin with https:// so that the API key is never sent in the clear")
    if url.username or url.password or re.search(r"[?#\s]", text):
        raise ValueError("must have no user name, password, query, fragment or space")
    return text.rstrip("/")
