"""Verifies signatures: turns a request into a verified event, or refuses it.

The rules are those of Standard Webhooks as Svix applies them: HMAC-SHA256 over
`{id}.{timestamp}.{raw body}`, timestamps within 300 s. The svix package verifies the signature. The
form of the three headers is checked before that, because on malformed input the package raises
errors of many kinds, and it accepts some texts that no sender writes.
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime

from svix.webhooks import Webhook, WebhookVerificationError

from pipeline.message import is_event_id

TOLERANCE_SECONDS = 300

_TIMESTAMP = re.compile(r"0|[1-9][0-9]{0,11}")
# 32 bytes in base64: 43 characters, of which the last carries 4 bits and two zeros, and one "=".
_SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")

_SEAL = object()


class VerificationError(Exception):
    """The request is refused. `code` is for programs, the text for the sender's dashboard."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class MalformedRequestError(VerificationError):
    """A header is missing or malformed, or the body cannot be verified: nothing was compared."""


class UnauthenticRequestError(VerificationError):
    """Well formed, but not signed with our secret, or at a time that is too far from now."""


@dataclass(frozen=True, slots=True)
class VerifiedEvent:
    """An authentic delivery. Only `Verifier.verify` creates one; the publisher takes nothing else.

    `body` holds the bytes exactly as they were signed. `timestamp` is that of the sender's attempt,
    in unix seconds. `received_at` is our time, in UTC; it differs between deliveries of an event.
    """

    event_id: str
    timestamp: str
    body: bytes = field(repr=False)
    received_at: datetime
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("only Verifier.verify creates a VerifiedEvent")


@dataclass(frozen=True, slots=True)
class SignedHeaders:
    """The three headers of a delivery, well formed but not verified."""

    event_id: str
    timestamp: str
    signatures: str = field(repr=False)  # well-formed v1 items, separated by spaces


def read_headers(header: Callable[[str], str | None]) -> SignedHeaders:
    """The headers `svix-*`, or `webhook-*` in their place.

    `header` returns a header by its lower-case name. Signature items of other schemes, and
    malformed ones, are dropped.

    Raises:
        MalformedRequestError: one is missing or malformed.
    """
    event_id, timestamp, signatures = (
        _require(header, part) for part in ("id", "timestamp", "signature")
    )
    if not is_event_id(event_id):
        raise MalformedRequestError(
            "malformed_header", "The svix-id header is not a message id as Svix writes it."
        )
    if not _TIMESTAMP.fullmatch(timestamp):
        raise MalformedRequestError(
            "malformed_header", "The svix-timestamp header is not a time in unix seconds."
        )
    well_formed = " ".join(item for item in signatures.split(" ") if _SIGNATURE.fullmatch(item))
    if not well_formed:
        raise MalformedRequestError(
            "malformed_header",
            "The svix-signature header has no v1 signature (v1, then 44 characters of base64).",
        )
    return SignedHeaders(event_id, timestamp, well_formed)


def claimed_event_id(header: Callable[[str], str | None]) -> str | None:
    """The event id that a request claims to have, for its log line, if it is well formed."""
    claimed = header("svix-id") or header("webhook-id")
    return claimed if claimed and is_event_id(claimed) else None


def check_timestamp(headers: SignedHeaders) -> None:
    """Check that the attempt is recent. This needs no body, so it can be done before reading it.

    Raises:
        UnauthenticRequestError: the timestamp is outside the tolerance.
    """
    skew = int(headers.timestamp) - time.time()
    if abs(skew) > TOLERANCE_SECONDS:
        direction = "past" if skew < 0 else "future"
        raise UnauthenticRequestError(
            "timestamp_out_of_tolerance",
            f"The svix-timestamp is {abs(skew):.0f} s in the {direction};"
            f" {TOLERANCE_SECONDS} s are tolerated. Resend the message from the dashboard; if"
            " every message is refused like this, the receiver's clock is wrong.",
        )


class Verifier:
    """Verifies deliveries against one or more signing secrets (several during a rotation)."""

    def __init__(self, signing_secrets: Iterable[str]) -> None:
        secrets = tuple(signing_secrets)
        self._webhooks = [Webhook(secret) for secret in secrets]
        self._keys = [base64.b64decode(secret.removeprefix("whsec_") + "==") for secret in secrets]

    def start_check(self, headers: SignedHeaders) -> "SignatureCheck":
        """A check of a body that arrives in parts. What passes it still has to be verified."""
        return SignatureCheck(self._keys, headers)

    def verify(self, headers: SignedHeaders, body: bytes) -> VerifiedEvent:
        """The verified event of these headers and the raw body.

        Raises:
            MalformedRequestError: the body is not UTF-8, so no Svix signature can be over it.
            UnauthenticRequestError: the timestamp is outside the tolerance, or nothing matches.
        """
        check_timestamp(headers)
        signed = {
            "svix-id": headers.event_id,
            "svix-timestamp": headers.timestamp,
            "svix-signature": headers.signatures,
        }
        if not any(_matches(webhook, body, signed) for webhook in self._webhooks):
            raise _signature_mismatch()
        return VerifiedEvent(
            event_id=headers.event_id,
            timestamp=headers.timestamp,
            body=body,
            received_at=datetime.now(UTC),
            seal=_SEAL,
        )


class SignatureCheck:
    """Compares the signatures with a body in parts, without ever holding the body.

    The svix package needs several times the size of a body to verify it, which only an authentic
    body may cost.
    """

    def __init__(self, keys: Iterable[bytes], headers: SignedHeaders) -> None:
        signed = f"{headers.event_id}.{headers.timestamp}.".encode()
        self._macs = [hmac.new(key, signed, hashlib.sha256) for key in keys]
        self._signatures = [
            base64.b64decode(item.removeprefix("v1,")) for item in headers.signatures.split(" ")
        ]

    def update(self, part: bytes | bytearray) -> None:
        """Add the next part of the body."""
        for mac in self._macs:
            mac.update(part)

    def raise_unless_authentic(self) -> None:
        """Do nothing if a signature matches the parts.

        Raises:
            UnauthenticRequestError: none does.
        """
        for mac in self._macs:
            digest = mac.digest()
            if any(hmac.compare_digest(digest, signature) for signature in self._signatures):
                return
        raise _signature_mismatch()


def _signature_mismatch() -> UnauthenticRequestError:
    return UnauthenticRequestError(
        "signature_mismatch",
        "No signature matches: the signing secret of this endpoint does not match the receiver's"
        " SIGNING_SECRETS, or something on the way changed the body. Compare the endpoint's secret"
        " in the webhook dashboard with the configured one.",
    )


def _require(header: Callable[[str], str | None], part: str) -> str:
    value = header(f"svix-{part}")
    if value is None:
        value = header(f"webhook-{part}")
    if value is None:
        raise MalformedRequestError(
            "missing_header",
            f"The svix-{part} header is missing: this address accepts signed webhooks only.",
        )
    return value


def _matches(webhook: Webhook, body: bytes, signed: dict[str, str]) -> bool:
    try:
        webhook.verify(body, signed)
    except WebhookVerificationError:
        return False
    except UnicodeDecodeError:
        raise MalformedRequestError(
            "unreadable_body", "The body is not UTF-8 text, so no signature can be over it."
        ) from None
    return True
