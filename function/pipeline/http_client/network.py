"""How this machine reaches other servers: the proxy and the certificate authorities.

Both come from the environment variables that requests reads (https://requests.readthedocs.io/en/
latest/user/advanced/). They are read once and checked at start: requests itself notices a missing
file or a proxy that it cannot use only when it sends a request.
"""

import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urlsplit

import requests.utils
from requests.adapters import HTTPAdapter
from urllib3.util import parse_url

from pipeline.environment import Environment, readable_file


@dataclass(frozen=True, slots=True)
class Network:
    """`proxies` by scheme, as requests takes them; `ca_bundle` is a file or a folder.

    Without a `ca_bundle`, the authorities of the package certifi are trusted.
    """

    proxies: Mapping[str, str] = field(repr=False)  # may contain a password
    ca_bundle: str | None


class _Session(requests.Session):
    """A session that never looks at redirects.

    `allow_redirects=False` is not enough: requests computes the redirect's target all the same, and
    reads the body for it, without our bounds.
    """

    def get_redirect_target(self, _: requests.Response) -> str | None:
        return None


def open_session() -> requests.Session:
    """A session that sends only what its caller sets: no cookies, nothing from .netrc.

    Neither does it look at the environment before every request; `Network` has been read once. Its
    library logs nothing: it would log whole URLs, whose queries may be secret.
    """
    logging.getLogger("urllib3").propagate = False
    session = _Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def read_network(environment: Environment, url: str | None) -> Network:
    """The proxy for this URL, and the certificate authorities.

    The proxy comes from the process's own environment and, on macOS, from the system's settings.
    """
    ca_bundle = environment.optional("REQUESTS_CA_BUNDLE", _ca_bundle, None)
    ca_bundle = ca_bundle or environment.optional("CURL_CA_BUNDLE", _ca_bundle, None)
    proxies: dict[str, str] = {}
    if url:
        proxies = requests.utils.get_environ_proxies(url)
        problem = _proxy_problem(requests.utils.select_proxy(url, proxies))
        if problem:
            name = f"{urlsplit(url).scheme.upper()}_PROXY (or ALL_PROXY)"
            environment.add_problem(
                f"{name} {problem}, or add {urlsplit(url).hostname} to NO_PROXY"
            )
    return Network(proxies, ca_bundle)


def _ca_bundle(text: str) -> str:
    if os.path.isdir(text):  # noqa: PTH112  # which raises nothing, whatever the text
        return text
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(readable_file(text))
    except ssl.SSLError:
        raise ValueError("names a file without certificates in PEM format") from None
    return text


def _proxy_problem(proxy: str | None) -> str:
    """Why requests could not use this proxy, without its password; empty where it can."""
    if not proxy:
        return ""
    try:
        complete = requests.utils.prepend_scheme_if_needed(  # type: ignore[no-untyped-call]
            proxy, "http"
        )
        url = parse_url(complete)
        if (url.scheme or "").startswith("socks"):
            return "names a SOCKS proxy, which needs PySocks, and that is not deployed: name http://..."
        HTTPAdapter().proxy_manager_for(complete)  # connects to nothing
        is_usable = bool(url.host)
    except (ValueError, requests.RequestException):
        is_usable = False
    return "" if is_usable else "is not the URL of a proxy: write http://HOST:PORT"
