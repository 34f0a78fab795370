"""Proxies of a company's network: used for Dimmy's API, never for this machine."""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests.utils

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def without_loopback(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of proxies among these, in both spellings, with this machine in NO_PROXY.

    curl, requests, gRPC and gcloud read either or both spellings.
    """
    found = {
        name: value
        for upper in VARIABLES
        for name in (upper, upper.lower())
        if (value := variables.get(name))
    }
    if not found:
        return {}
    listed = found.get("no_proxy") or found.get("NO_PROXY") or ""
    hosts = [host.strip() for host in listed.split(",") if host.strip()]
    exceptions = ",".join(dict.fromkeys([*hosts, *_LOOPBACK]))
    return found | {"NO_PROXY": exceptions, "no_proxy": exceptions}


def never_use_for_loopback() -> None:
    """Let this process and its children reach this machine without a proxy."""
    os.environ.update(without_loopback(os.environ))


def describe_proxy(url: str) -> str:
    """The host of the proxy for a URL; empty where there is none."""
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not proxy:
        return ""
    parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return parts.netloc.rpartition("@")[2]  # without a password
