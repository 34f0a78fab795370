"""The connection to Pub/Sub in Google Cloud. Imported when there is one to open: it is heavy."""

from collections.abc import Sequence
from typing import Any

import google.auth
import grpc
import grpc.aio
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request

_HOST = "pubsub.googleapis.com:443"
_SCOPE = "https://www.googleapis.com/auth/pubsub"


def default_credentials() -> grpc.ChannelCredentials:
    """TLS, and with every call a token of the default credentials. Asks the metadata server.

    Raises:
        google.auth.exceptions.GoogleAuthError: there are no credentials to be had.
    """
    credentials, _ = google.auth.default(scopes=[_SCOPE])
    tokens = AuthMetadataPlugin(credentials, Request(), default_host=_HOST)  # type: ignore[no-untyped-call]
    return grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(), grpc.metadata_call_credentials(tokens)
    )


def open_google_channel(
    credentials: grpc.ChannelCredentials, options: Sequence[tuple[str, Any]]
) -> grpc.aio.Channel:
    """A new channel; it connects by itself when it is used."""
    return grpc.aio.secure_channel(_HOST, credentials, options=options)
