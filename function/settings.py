"""Settings: the environment, read once at start into one frozen object per entry point.

Every problem is collected before anything is reported, so that one look at one message is
enough to mend them all. Values of secrets never appear in a message, a repr or a log.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

import sources

T = TypeVar("T")

DEFAULT_API_URL = "https://dimmy.api.optioryx.com"

_SECRET_PREFIX = "whsec_"
_TOPIC = re.compile(r"projects/[^/\s]+/topics/[A-Za-z][A-Za-z0-9._~%+-]{2,254}")
_BUCKET_URL = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[A-Za-z0-9._-]+)*/?")
# Below the longest ack deadline of Pub/Sub, and the longest time that Cloud Scheduler waits.
_LONGEST_ATTEMPT_SECONDS = {"resolve": 590, "reconcile": 1790}
_LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}


class SettingsError(Exception):
    """The environment cannot be used; the text lists every problem and how to mend it."""

    def __init__(self, entry_point: str, problems: list[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{entry_point} cannot start, its settings need attention:\n{lines}")


@dataclass(frozen=True, slots=True)
class LogSettings:
    format: str  # "json" or "text"
    level: str  # a name that the logging module knows
    project: str | None  # whose traces the lines belong to


@dataclass(frozen=True, slots=True)
class StorageSettings:
    url: str
    emulator_url: str | None = None  # where a bucket (gs://) is served in Google's place


@dataclass(frozen=True, slots=True)
class ReceiveSettings:
    signing_secrets: tuple[str, ...] = field(repr=False)
    events_topic: str
    storage: StorageSettings
    allowed_sources: tuple[sources.Network, ...]
    trusted_proxy_hops: int
    pubsub_emulator_host: str | None
    log: LogSettings


@dataclass(frozen=True, slots=True)
class FetchSettings:
    storage: StorageSettings
    api_url: str
    api_key: str = field(repr=False)
    concurrency: int
    timeout_seconds: float
    attempt_seconds: float
    log: LogSettings


def read_receive_settings(environment: Mapping[str, str]) -> ReceiveSettings:
    """The settings of `receive`.

    Raises:
        SettingsError: something is missing or malformed; the message names all of it.
    """
    read = _Reader(environment)
    settings = ReceiveSettings(
        signing_secrets=read.required(
            "SIGNING_SECRETS",
            parse_signing_secrets,
            "the signing secret of the endpoint, as the webhook dashboard shows it (whsec_...)",
        ),
        events_topic=read.required("EVENTS_TOPIC", _topic, "projects/PROJECT/topics/TOPIC"),
        storage=_read_storage_settings(read),
        allowed_sources=read.optional("ALLOWED_SOURCES", sources.parse, ()),
        trusted_proxy_hops=read.optional("TRUSTED_PROXY_HOPS", _whole_number(0, 10), 1),
        pubsub_emulator_host=read.optional("PUBSUB_EMULATOR_HOST", _host_and_port, None),
        log=_read_log_settings(read),
    )
    read.raise_problems("receive")
    return settings


def read_fetch_settings(entry_point: str, environment: Mapping[str, str]) -> FetchSettings:
    """The settings of `resolve` and of `reconcile`, which both fetch from Dimmy's API.

    Raises:
        SettingsError: something is missing or malformed; the message names all of it.
    """
    read = _Reader(environment)
    longest_attempt = _LONGEST_ATTEMPT_SECONDS[entry_point]
    settings = FetchSettings(
        storage=_read_storage_settings(read),
        api_url=read.optional("DIMMY_API_URL", _api_url, DEFAULT_API_URL),
        api_key=read.required(
            "DIMMY_API_KEY", parse_api_key, "an API key from Account & Limits in the Dimmy web app"
        ),
        concurrency=read.optional("DIMMY_CONCURRENCY", _whole_number(1, 256), 32),
        timeout_seconds=read.optional("DIMMY_TIMEOUT_SECONDS", _seconds(0.1, 120), 10.0),
        attempt_seconds=read.optional("ATTEMPT_SECONDS", _seconds(1, longest_attempt), 500.0),
        log=_read_log_settings(read),
    )
    read.raise_problems(entry_point)
    return settings


def parse_signing_secrets(text: str) -> tuple[str, ...]:
    """Secrets separated by spaces, commas or newlines, each checked strictly.

    The svix package would take almost any text for a key and then refuse every event (a sample's
    placeholder, a public key, a quoted value), so the form is settled here: `whsec_`, then base64
    of 24 to 75 bytes (what Svix issues). Lost trailing `=` signs are forgiven: they carry nothing.

    Raises:
        ValueError: says which one (by position) is wrong and why, never what it is.
    """
    secrets = tuple(part for part in re.split(r"[\s,]+", text) if part)
    if not secrets:
        raise ValueError("is empty")
    for position, secret in enumerate(secrets, start=1):
        fault = _signing_secret_fault(secret)
        if fault:
            raise ValueError(f"secret {position} of {len(secrets)} {fault}")
    return secrets


def parse_api_key(text: str) -> str:
    """The API key, if it looks like one.

    Raises:
        ValueError: says why it does not, never what it is.
    """
    if not re.fullmatch(r"[!-~]{8,512}", text) or text[0] in "<\"'":
        raise ValueError(
            "does not look like an API key (8 or more visible characters, no quotes, no <...>)"
        )
    return text


def _signing_secret_fault(secret: str) -> str | None:
    if not secret.startswith(_SECRET_PREFIX):
        return "does not begin with whsec_ (no quotes, no other prefix, lower case)"
    encoded = secret.removeprefix(_SECRET_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return "is not base64 after whsec_: copy it again, whole"
    if base64.b64encode(key).decode().rstrip("=") != encoded:
        return "is not whole base64 after whsec_: its end seems to be cut off, copy it again"
    if not 24 <= len(key) <= 75:
        return f"is a key of {len(key)} bytes where 24 to 75 are expected: copy it again, whole"
    return None


class _Reader:
    """Reads variables one by one and remembers what was wrong with each."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._problems: list[str] = []

    def required(self, name: str, parse: Callable[[str], T], meaning: str) -> T:
        if not self._environment.get(name, "").strip():
            self._problems.append(f"{name} is missing: set it to {meaning}.")
            return None  # type: ignore[return-value]  # raise_problems() comes before any use
        return self._parse(name, parse)

    def optional(self, name: str, parse: Callable[[str], T], default: T) -> T:
        if not self._environment.get(name, "").strip():
            return default
        return self._parse(name, parse)

    def raise_problems(self, entry_point: str) -> None:
        if self._problems:
            raise SettingsError(entry_point, self._problems)

    def _parse(self, name: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(self._environment[name].strip())
        except ValueError as error:
            self._problems.append(f"{name} {error}.")
            return None  # type: ignore[return-value]  # raise_problems() comes before any use


def _read_log_settings(read: _Reader) -> LogSettings:
    return LogSettings(
        format=read.optional("LOG_FORMAT", _one_of("json", "text"), "json"),
        level=read.optional("LOG_LEVEL", _one_of("DEBUG", "INFO", "WARNING", "ERROR"), "INFO"),
        project=read.optional("GOOGLE_CLOUD_PROJECT", _project, None),
    )


def _read_storage_settings(read: _Reader) -> StorageSettings:
    return StorageSettings(
        url=read.required("STORAGE_URL", _storage_url, "gs://bucket or file:///absolute/folder"),
        emulator_url=read.optional("STORAGE_EMULATOR_HOST", _loopback_url, None),
    )


def _topic(text: str) -> str:
    if not _TOPIC.fullmatch(text):
        raise ValueError("is not a topic's full name: write projects/PROJECT/topics/TOPIC")
    return text


def _project(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", text):
        raise ValueError("is not a project's id (6 to 30 lower-case letters, digits and dashes)")
    return text


def _storage_url(text: str) -> str:
    if text.startswith("file://"):
        path = text.removeprefix("file://")
        if not path.startswith("/") or path.strip("/") == "":
            raise ValueError("needs an absolute folder after file://, as in file:///srv/dimmy")
    elif not _BUCKET_URL.fullmatch(text):
        raise ValueError("is neither gs://bucket[/prefix] nor file:///absolute/folder")
    return text.rstrip("/")


def _api_url(text: str) -> str:
    try:
        url = urlsplit(text)
        port_is_fine = url.port is None or url.port > 0
    except ValueError:
        url, port_is_fine = urlsplit(""), False
    if not (url.hostname and port_is_fine) or url.scheme not in {"http", "https"}:
        raise ValueError(f"is not a URL such as {DEFAULT_API_URL}")
    if url.scheme == "http" and url.hostname not in _LOOPBACK_HOSTS:
        raise ValueError("must begin with https:// so that the API key is never sent in the clear")
    if url.username or url.password or re.search(r"[?#\s]", text):
        raise ValueError("must have no user name, password, query, fragment or space")
    return text.rstrip("/")


def _loopback_url(text: str) -> str:
    if not re.fullmatch(r"http://(localhost|127\.0\.0\.1):\d{1,5}", text):
        raise ValueError("is not http://127.0.0.1:PORT; only an emulator on this machine is used")
    return text


def _host_and_port(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not (host and separator and port.isdecimal() and int(port) < 65536) or "/" in host:
        raise ValueError("is not HOST:PORT, as in 127.0.0.1:8085")
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        for word in words:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"is none of {', '.join(words)}")

    return parse


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return int(text)

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text) or not low <= float(text) <= high:
            raise ValueError(f"is not a number of seconds from {low} to {high}")
        return float(text)

    return parse
