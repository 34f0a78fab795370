"""The settings of `resolve`."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.deadline import read_attempt_seconds
from pipeline.dimmy.settings import DimmySettings, read_dimmy_settings
from pipeline.environment import Environment
from pipeline.items_topic.settings import ItemsTopicSettings, read_items_topic_settings
from pipeline.logs import LogSettings, read_log_settings
from pipeline.store.settings import StorageSettings, read_storage_settings

_LONGEST_ATTEMPT_SECONDS = 590  # below Pub/Sub's longest ack deadline


@dataclass(frozen=True, slots=True)
class ResolveSettings:
    """`attempt_seconds` is the time for one attempt at an event, below its ack deadline."""

    storage: StorageSettings
    dimmy: DimmySettings
    items_topic: ItemsTopicSettings | None
    attempt_seconds: float
    log: LogSettings


def read_resolve_settings(variables: Mapping[str, str]) -> ResolveSettings:
    """The settings of `resolve`.

    Raises:
        SettingsError: something is missing or malformed; the message lists every problem.
    """
    environment = Environment(variables)
    settings = ResolveSettings(
        storage=read_storage_settings(environment),
        dimmy=read_dimmy_settings(environment),
        items_topic=read_items_topic_settings(environment),
        attempt_seconds=read_attempt_seconds(environment, _LONGEST_ATTEMPT_SECONDS),
        log=read_log_settings(environment),
    )
    environment.raise_problems("resolve")
    return settings
