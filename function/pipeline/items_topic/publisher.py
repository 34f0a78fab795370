"""Publishes with google-cloud-pubsub's own client, whose batches the threads of a process share."""

import concurrent.futures
import threading
from collections.abc import Mapping

import google.auth
import grpc
from google.api_core import exceptions, retry
from google.api_core.timeout import ConstantTimeout
from google.auth.exceptions import GoogleAuthError
from google.cloud.pubsub_v1 import types
from google.cloud.pubsub_v1.publisher.client import Client
from google.cloud.pubsub_v1.publisher.exceptions import FlowControlLimitError
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport as Transport

from pipeline.items_topic.errors import ItemsTopicError
from pipeline.items_topic.settings import ItemsTopicSettings
from pipeline.pubsub.connection import CHANNEL_OPTIONS

TRY_SECONDS = 4.0
ALL_TRIES_SECONDS = 10.0
# The client ends its tries by itself. Where it does not, its thread has ended without an answer.
CONFIRMATION_SECONDS = 20.0

# A lone message waits this long for others.
_BATCH_SECONDS = 0.005
_BATCH_MESSAGES = 100
_BATCH_BYTES = 1_000_000

_TRANSIENT = (
    exceptions.Aborted,
    exceptions.Cancelled,
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
    exceptions.ResourceExhausted,
    exceptions.ServiceUnavailable,
    exceptions.Unknown,
)


class ConfirmedPublisher:
    """Publishes messages to one topic. Connects on first use. Safe to share between threads."""

    def __init__(self, settings: ItemsTopicSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: Client | None = None

    def publish(self, data: bytes, attributes: Mapping[str, str]) -> None:
        """Publish a message; return once Pub/Sub has confirmed it.

        Raises:
            ItemsTopicError: it is not confirmed, although it may have been published.
        """
        client = self._open_client()
        try:
            future = client.publish(self._settings.topic, data, **attributes)
            future.result(CONFIRMATION_SECONDS)
        except concurrent.futures.TimeoutError:
            # What it has in flight would count against its limits for ever.
            self._discard(client)
            raise ItemsTopicError("Pub/Sub does not confirm messages") from None
        except (exceptions.GoogleAPIError, GoogleAuthError, FlowControlLimitError) as error:
            raise ItemsTopicError(_reason(error)) from error

    def _open_client(self) -> Client:
        """The client. Raises ItemsTopicError: there are no credentials."""
        with self._lock:
            if self._client is None:
                try:
                    self._client = _open_client(self._settings.emulator_host)
                except (GoogleAuthError, OSError) as error:
                    raise ItemsTopicError(_reason(error)) from error
            return self._client

    def _discard(self, client: Client) -> None:
        with self._lock:
            if self._client is client:
                self._client = None


def _open_client(emulator_host: str | None) -> Client:
    if emulator_host:
        channel = grpc.insecure_channel(emulator_host, options=CHANNEL_OPTIONS)
    else:
        credentials, _ = google.auth.default(scopes=Transport.AUTH_SCOPES)
        channel = Transport.create_channel(credentials=credentials, options=CHANNEL_OPTIONS)
    flow_control = types.PublishFlowControl(
        message_limit=1_000,
        byte_limit=64 * 1024 * 1024,
        # A caller that is blocked would not notice its deadline.
        limit_exceeded_behavior=types.LimitExceededBehavior.ERROR,
    )
    return Client(
        batch_settings=types.BatchSettings(_BATCH_BYTES, _BATCH_SECONDS, _BATCH_MESSAGES),
        publisher_options=types.PublisherOptions(
            flow_control=flow_control,
            retry=retry.Retry(
                predicate=retry.if_exception_type(*_TRANSIENT),
                initial=0.1,
                maximum=1.0,
                timeout=ALL_TRIES_SECONDS,
            ),
            # A plain number would be the time of all tries together.
            timeout=ConstantTimeout(TRY_SECONDS),  # type: ignore[no-untyped-call]
        ),
        transport=Transport(channel=channel),
    )


def _reason(error: Exception) -> str:
    """The error in one line, short enough for a receipt."""
    cause = error.cause if isinstance(error, exceptions.RetryError) and error.cause else error
    text = " ".join(str(cause).split())[:200]
    return f"{type(cause).__name__}: {text}".rstrip(": ")
