"""The settings of `receive`."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.environment import Environment, check_google_credentials, whole_number
from pipeline.logs import LogSettings, read_log_settings
from pipeline.pubsub.connection import read_emulator_host, topic_name
from pipeline.receive import sources
from pipeline.store.settings import StorageSettings, read_storage_settings

_SECRET_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class ReceiveSettings:
    """`allowed_sources` empty: any source. `trusted_proxy_hops`: see `sources.client_address`."""

    signing_secrets: tuple[str, ...] = field(repr=False)
    events_topic: str
    storage: StorageSettings
    allowed_sources: tuple[sources.Network, ...]
    trusted_proxy_hops: int
    pubsub_emulator_host: str | None
    log: LogSettings


def read_receive_settings(variables: Mapping[str, str]) -> ReceiveSettings:
    """The settings of `receive`.

    Raises:
        SettingsError: something is missing or malformed; the message lists every problem.
    """
    environment = Environment(variables)
    settings = ReceiveSettings(
        signing_secrets=environment.required(
            "SIGNING_SECRETS",
            parse_signing_secrets,
            "the signing secret of the endpoint, as the webhook dashboard shows it (whsec_...)",
        ),
        events_topic=environment.required(
            "EVENTS_TOPIC", topic_name, "projects/PROJECT/topics/TOPIC"
        ),
        storage=read_storage_settings(environment),
        allowed_sources=environment.optional("ALLOWED_SOURCES", sources.parse, ()),
        trusted_proxy_hops=environment.optional("TRUSTED_PROXY_HOPS", whole_number(0, 10), 1),
        pubsub_emulator_host=read_emulator_host(environment),
        log=read_log_settings(environment),
    )
    if not settings.pubsub_emulator_host:
        check_google_credentials(environment)
    environment.raise_problems("receive")
    return settings


def parse_signing_secrets(text: str) -> tuple[str, ...]:
    """Secrets separated by spaces, commas or newlines, each checked strictly.

    The svix package accepts almost any text as a key (a sample's placeholder, a public key, a
    quoted value) and then refuses every event. So the format is checked here: `whsec_`, then base64
    of 24 to 75 bytes, which is what Svix issues. Missing `=` signs at the end do no harm.

    Raises:
        ValueError: says which secret (by position) is wrong and why; never contains it.
    """
    secrets = tuple(part for part in re.split(r"[\s,]+", text) if part)
    if not secrets:
        raise ValueError("is empty")
    for position, secret in enumerate(secrets, start=1):
        problem = _signing_secret_problem(secret)
        if problem:
            raise ValueError(f"secret {position} of {len(secrets)} {problem}")
    return secrets


def _signing_secret_problem(secret: str) -> str | None:
    if not secret.startswith(_SECRET_PREFIX):
        return "does not begin with whsec_ (no quotes, no other prefix, lower case)"
    encoded = secret.removeprefix(_SECRET_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return "is not base64 after whsec_: copy all of it again"
    if base64.b64encode(key).decode().rstrip("=") != encoded:
        return "is incomplete base64 after whsec_: its end seems to be cut off, copy it again"
    if not 24 <= len(key) <= 75:
        return f"is a key of {len(key)} bytes where 24 to 75 are expected: copy all of it again"
    return None
