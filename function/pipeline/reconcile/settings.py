"""The settings of `reconcile`."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.deadline import read_attempt_seconds
from pipeline.dimmy.settings import DimmySettings, read_dimmy_settings
from pipeline.environment import Environment
from pipeline.items_topic.settings import ItemsTopicSettings, read_items_topic_settings
from pipeline.logs import LogSettings, read_log_settings
from pipeline.store.settings import StorageSettings, read_storage_settings

_LONGEST_ATTEMPT_SECONDS = 1790  # below the longest time that Cloud Scheduler waits


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    """`attempt_seconds` is the time for one request, which covers a window or a part of it."""

    storage: StorageSettings
    dimmy: DimmySettings
    items_topic: ItemsTopicSettings | None
    attempt_seconds: float
    log: LogSettings


def read_reconcile_settings(variables: Mapping[str, str]) -> ReconcileSettings:
    """The settings of `reconcile`.

    Raises:
        SettingsError: something is missing or malformed; the message lists every problem.
    """
    environment = Environment(variables)
    settings = ReconcileSettings(
        storage=read_storage_settings(environment),
        dimmy=read_dimmy_settings(environment),
        items_topic=read_items_topic_settings(environment),
        attempt_seconds=read_attempt_seconds(environment, _LONGEST_ATTEMPT_SECONDS),
        log=read_log_settings(environment),
    )
    environment.raise_problems("reconcile")
    return settings
