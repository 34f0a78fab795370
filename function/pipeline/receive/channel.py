"""The connection to Pub/Sub: to an emulator, or to Google with the default credentials."""

import asyncio
from collections.abc import Callable

import grpc.aio
from google.auth.exceptions import GoogleAuthError

from pipeline.lazy_packages import import_only
from pipeline.pubsub.connection import CHANNEL_OPTIONS

OpenChannel = Callable[[], grpc.aio.Channel]


class NoCredentialsError(Exception):
    """There are no default credentials."""


async def channel_opener(emulator_host: str | None) -> OpenChannel:
    """A function that opens a channel, which connects by itself when it is used.

    Raises:
        NoCredentialsError: Google needs credentials, and there are none.
    """
    if emulator_host:
        return lambda: grpc.aio.insecure_channel(emulator_host, options=CHANNEL_OPTIONS)
    try:
        # It may ask the metadata server, which must not block the event loop.
        return await asyncio.to_thread(_google_channel_opener)
    except GoogleAuthError as error:
        raise NoCredentialsError(str(error)) from error


def _google_channel_opener() -> OpenChannel:
    """The library's own channel: TLS, and an access token with every call."""
    # With an emulator none of this is needed.
    import google.auth  # noqa: PLC0415

    import_only("google.pubsub_v1.services.publisher", "transports")
    from google.pubsub_v1.services.publisher.transports import (  # noqa: PLC0415
        PublisherGrpcAsyncIOTransport as Transport,
    )

    credentials, _ = google.auth.default(scopes=Transport.AUTH_SCOPES)
    return lambda: Transport.create_channel(credentials=credentials, options=CHANNEL_OPTIONS)
