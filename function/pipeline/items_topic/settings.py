"""The settings of the items topic: ITEMS_TOPIC and PUBSUB_EMULATOR_HOST."""

from dataclasses import dataclass

from pipeline.environment import Environment, check_google_credentials
from pipeline.pubsub.connection import read_emulator_host, topic_name


@dataclass(frozen=True, slots=True)
class ItemsTopicSettings:
    """The full name of the topic; `emulator_host` serves it in place of Google."""

    topic: str
    emulator_host: str | None


def read_items_topic_settings(environment: Environment) -> ItemsTopicSettings | None:
    """The settings of the topic; None where items are not published."""
    topic = environment.optional("ITEMS_TOPIC", topic_name, None)
    if topic is None:
        return None
    emulator_host = read_emulator_host(environment)
    if not emulator_host:
        check_google_credentials(environment)
    return ItemsTopicSettings(topic, emulator_host)
