"""Verification: signed requests are accepted, all others are refused.

One of them: .venv/bin/pytest tests/receive/test_verification.py -k flipped
"""

import base64
import dataclasses
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from svix.webhooks import Webhook

from pipeline.receive.verification import (
    MalformedRequestError,
    SignedHeaders,
    UnauthenticRequestError,
    VerificationError,
    VerifiedEvent,
    Verifier,
    read_headers,
)
from support.clock import Clock

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

NOW = 1_764_000_000

PARTS = ("id", "timestamp", "signature")

event_ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
texts = st.text(max_size=200)


def signed(event_id: str, body: str, secret: str = SECRET, at: int | None = None) -> dict[str, str]:
    moment = datetime.fromtimestamp(int(time.time()) if at is None else at, UTC)
    return {
        "svix-id": event_id,
        "svix-timestamp": str(int(moment.timestamp())),
        "svix-signature": Webhook(secret).sign(event_id, moment, body),
    }


def verify(headers: dict[str, str], body: bytes, *secrets: str) -> VerifiedEvent:
    return Verifier(secrets or (SECRET,)).verify(read_headers(headers.get), body)


@given(event_id=event_ids, body=texts, key=st.binary(min_size=24, max_size=75))
def test_a_signed_body_is_accepted_byte_for_byte(event_id: str, body: str, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    headers = signed(event_id, body, secret)

    event = verify(headers, body.encode(), secret)

    assert (event.event_id, event.body) == (event_id, body.encode())
    assert event.timestamp == headers["svix-timestamp"]


@given(event_id=event_ids, body=st.text(min_size=1, max_size=50), data=st.data())
@pytest.mark.parametrize("part", ["svix-id", "svix-timestamp", "svix-signature", "body"])
def test_any_flipped_bit_is_refused(
    part: str, event_id: str, body: str, data: st.DataObject
) -> None:
    headers = signed(event_id, body)
    raw = bytearray(body.encode() if part == "body" else headers[part].encode())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1), label="bit")
    raw[bit // 8] ^= 1 << bit % 8
    if part != "body":
        headers[part] = raw.decode("latin-1")

    with pytest.raises(VerificationError):
        verify(headers, bytes(raw) if part == "body" else body.encode())


@pytest.mark.parametrize("part", ["svix-id", "svix-timestamp", "svix-signature"])
def test_a_header_with_any_single_bit_changed_is_refused(part: str) -> None:
    headers = signed("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", "{}")
    for bit in range(len(headers[part]) * 8):
        raw = bytearray(headers[part].encode())
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VerificationError):
            verify(headers | {part: raw.decode("latin-1")}, b"{}")


def test_a_signature_has_only_one_valid_encoding() -> None:
    """The last character has two bits that decoders ignore; they must be zero."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    headers = signed("msg_1", "{}")
    stem, last = headers["svix-signature"][:-2], headers["svix-signature"][-2]

    for spare in (1, 2, 3):
        altered = stem + alphabet[alphabet.index(last) + spare] + "="
        with pytest.raises(MalformedRequestError):
            verify(headers | {"svix-signature": altered}, b"{}")


@given(
    headers=st.dictionaries(
        st.sampled_from([f"{p}-{n}" for p in ("svix", "webhook") for n in PARTS]),
        st.text() | st.sampled_from(["1" * 12, "v1," + "A" * 43 + "=", "msg_1", "nan", "1e9", "٣"]),
    ),
    body=st.binary(),
)
def test_hostile_input_raises_only_verification_errors(
    headers: dict[str, str], body: bytes
) -> None:
    with pytest.raises(VerificationError):
        verify(headers, body)


@pytest.mark.parametrize("skew", [-300, 300])
def test_a_timestamp_within_the_tolerance_is_accepted(clock: Clock, skew: int) -> None:
    clock.set(NOW)

    assert verify(signed("msg_1", "{}", at=NOW + skew), b"{}")


@pytest.mark.parametrize(("skew", "direction"), [(-301, "past"), (301, "future")])
def test_a_timestamp_beyond_the_tolerance_is_refused_with_the_difference(
    clock: Clock, skew: int, direction: str
) -> None:
    clock.set(NOW)

    with pytest.raises(UnauthenticRequestError, match=f"301 s in the {direction}") as refused:
        verify(signed("msg_1", "{}", at=NOW + skew), b"{}")

    assert refused.value.code == "timestamp_out_of_tolerance"


def test_each_svix_header_may_be_replaced_by_its_webhook_header() -> None:
    headers = signed("msg_1", "{}")
    headers["webhook-signature"] = headers.pop("svix-signature")

    assert verify(headers, b"{}")


def test_a_svix_header_takes_precedence_over_a_webhook_header() -> None:
    headers = signed("msg_1", "{}") | {"webhook-id": "msg_2"}

    assert verify(headers, b"{}").event_id == "msg_1"


def test_every_secret_is_tried() -> None:
    new, old = SECRET, "whsec_" + "B" * 32

    assert verify(signed("msg_1", "{}", old), b"{}", new, old)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("svix-id", "msg/../1"),
        ("svix-id", "a" * 257),
        ("svix-id", "msg_1\n"),
        ("svix-timestamp", "1e9"),
        ("svix-timestamp", "1614265330.0"),
        ("svix-timestamp", "01614265330"),
        ("svix-timestamp", "٣"),
        ("svix-timestamp", "1" * 13),
        ("svix-signature", ""),
        ("svix-signature", "v1a," + "A" * 43 + "="),
        ("svix-signature", "v1,\u0100" + "A" * 42 + "="),
    ],
)
def test_a_malformed_header_is_named(name: str, value: str) -> None:
    headers = signed("msg_1", "{}") | {name: value}

    with pytest.raises(MalformedRequestError, match=name):
        read_headers(headers.get)


def test_a_body_that_is_not_utf8_cannot_be_verified() -> None:
    with pytest.raises(MalformedRequestError, match="UTF-8"):
        verify(signed("msg_1", "{}"), b"\xff\xfe")


def test_only_the_verifier_creates_verified_events() -> None:
    event = verify(signed("msg_1", "{}"), b"{}")

    with pytest.raises(TypeError, match=r"Verifier\.verify"):
        VerifiedEvent("msg_1", "1", b"", datetime.now(UTC), seal=object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(event, body=b"forged")  # type: ignore[call-arg]
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.body = b"forged"  # type: ignore[misc]


def test_no_repr_contains_a_secret_or_a_signature() -> None:
    headers = read_headers(signed("msg_1", "{}").get)

    assert isinstance(headers, SignedHeaders)
    assert headers.signatures not in repr(headers)
    assert SECRET[6:] not in repr(vars(Verifier([SECRET])))
