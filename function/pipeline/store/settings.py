"""The settings of storage: STORAGE_URL and STORAGE_EMULATOR_HOST."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.environment import Environment, check_google_credentials

if TYPE_CHECKING:
    from obstore.store import GCSCredentialProvider

_BUCKET_URL = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[A-Za-z0-9._-]+)*/?")


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where objects are stored: `gs://bucket[/prefix]` or `file:///folder`.

    `credential` gives access to the bucket; without it, Google's default credentials do.
    """

    url: str
    emulator_url: str | None = None  # serves the bucket in place of Google
    credential: "GCSCredentialProvider | None" = None


def read_storage_settings(environment: Environment) -> StorageSettings:
    """The settings of storage."""
    url = environment.required(
        "STORAGE_URL", _storage_url, "gs://bucket or file:///absolute/folder"
    )
    emulator_url = environment.optional("STORAGE_EMULATOR_HOST", _loopback_url, None)
    if not (emulator_url or (url and url.startswith("file://"))):
        check_google_credentials(environment)
    return StorageSettings(url, emulator_url)


def _storage_url(text: str) -> str:
    if text.startswith("file://"):
        path = text.removeprefix("file://")
        if not path.startswith("/") or path.strip("/") == "":
            raise ValueError("needs an absolute folder after file://, as in file:///srv/dimmy")
    elif not _BUCKET_URL.fullmatch(text):
        raise ValueError("is neither gs://bucket[/prefix] nor file:///absolute/folder")
    return text.rstrip("/")


def _loopback_url(text: str) -> str:
    if not re.fullmatch(r"http://(localhost|127\.0\.0\.1):\d{1,5}", text):
        raise ValueError("is not http://127.0.0.1:PORT; only an emulator on this machine is used")
    return text
