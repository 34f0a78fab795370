"""What every connection to Pub/Sub has in common: its settings and its options."""

import re

from pipeline.environment import Environment

_TOPIC = re.compile(r"projects/[^/\s]+/topics/[A-Za-z][A-Za-z0-9._~%+-]{2,254}")

CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    # By default the pauses between attempts to connect grow to two minutes, so that messages would
    # still be refused long after Pub/Sub is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30000),
    # By default all channels to a host share one connection, so that a new channel would get the
    # connection that no longer responds.
    ("grpc.use_local_subchannel_pool", 1),
]


def topic_name(text: str) -> str:
    """A parser for the full name of a topic."""
    if not _TOPIC.fullmatch(text):
        raise ValueError("is not a topic's full name: write projects/PROJECT/topics/TOPIC")
    return text


def read_emulator_host(environment: Environment) -> str | None:
    """PUBSUB_EMULATOR_HOST, or None: Google."""
    return environment.optional("PUBSUB_EMULATOR_HOST", _host_and_port, None)


def _host_and_port(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not (host and separator and port.isdecimal() and int(port) < 65536) or "/" in host:
        raise ValueError("is not HOST:PORT, as in 127.0.0.1:8085")
    return text
