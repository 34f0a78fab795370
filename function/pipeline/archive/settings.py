"""The settings of `archive`."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.archive.addresses import DEFAULT_HOST, parse_photo_hosts
from pipeline.deadline import read_attempt_seconds
from pipeline.environment import Environment
from pipeline.http_client.network import Network, read_network
from pipeline.logs import LogSettings, read_log_settings
from pipeline.store.settings import StorageSettings, read_storage_settings

_LONGEST_ATTEMPT_SECONDS = 590  # below Pub/Sub's longest ack deadline


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """`photo_origins` are the origins that photos are fetched from, and how each is reached.

    `attempt_seconds` is the time for one attempt at an item, below its ack deadline.
    """

    storage: StorageSettings
    photo_origins: Mapping[str, Network]
    attempt_seconds: float
    log: LogSettings


def read_archive_settings(variables: Mapping[str, str]) -> ArchiveSettings:
    """The settings of `archive`.

    Raises:
        SettingsError: something is missing or malformed; the message lists every problem.
    """
    environment = Environment(variables)
    default = parse_photo_hosts(DEFAULT_HOST)
    origins = environment.optional("PHOTO_HOSTS", parse_photo_hosts, default)
    settings = ArchiveSettings(
        storage=read_storage_settings(environment),
        photo_origins={each: read_network(environment, each) for each in origins or default},
        attempt_seconds=read_attempt_seconds(environment, _LONGEST_ATTEMPT_SECONDS),
        log=read_log_settings(environment),
    )
    environment.raise_problems("archive")
    return settings
