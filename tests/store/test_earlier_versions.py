"""Receipts as earlier versions of this software have written them.

One of them: .venv/bin/pytest tests/store/test_earlier_versions.py -k partial
"""

from dataclasses import replace

import pytest

from pipeline.store.receipts import DeliveryId, Receipt
from pipeline.store.states import EVENT

RECEIVED_AT = "2026-11-01T08:00:00.123456Z"
BODY = '{"item_ids":["67c8","é"],"n":1.50}'.encode()

_PARTIAL = (
    '{"event_id":"msg_1","kind":"items.scanned","received_at":"2026-11-01T08:00:00.123456Z",%s'
    '"attempts":2,"outcome":"partial",%s"items":{"67c8":"stored","%s":"404: Item not found"},'
    '"payload":{"item_ids":["67c8","é"],"n":1.50}}'
)
# By what each version added, the latest last.
PARTIAL = {
    "the first": _PARTIAL % ("", "", "é"),
    "redriven": _PARTIAL % ("", '"redriven":false,', "é"),
    "escapes": _PARTIAL % ("", '"redriven":false,', "\\u00e9"),
    "message_id": _PARTIAL % ('"message_id":"8",', '"redriven":false,', "\\u00e9"),
}
# An attempt that failed as a whole, when its reason was not among the items.
FAILED = (
    '{"event_id":"msg_1","kind":"items.scanned","received_at":"2026-11-01T08:00:00.123456Z",'
    '"message_id":"8","attempts":1,"outcome":"partial","redriven":false,'
    '"error":"internal error: KeyError","items":{},"payload":{"item_ids":["67c8"]}}'
)
UNRECOGNISED = (
    '{"event_id":"msg_1","kind":"unrecognised","received_at":"2026-11-01T08:00:00.123456Z",'
    '"attempts":2,"outcome":"unrecognised","items":{},"payload_encoding":"base64","payload":"/w=="}'
)


@pytest.mark.parametrize("line", PARTIAL.values(), ids=PARTIAL)
def test_a_partial_receipt_is_read_and_goes_on(line: str) -> None:
    receipt = Receipt.read_with_payload(line.encode())

    assert replace(receipt, delivery=DeliveryId(RECEIVED_AT, "")) == Receipt(
        event_id="msg_1",
        kind="items.scanned",
        delivery=DeliveryId(RECEIVED_AT, ""),
        attempts=2,
        items={"67c8": "stored", "é": "404: Item not found"},
        payload=BODY,
    )
    assert Receipt.read(line.encode()) == replace(receipt, payload=b"")
    later = replace(receipt, attempts=3, items={"é": "stored"}, delivery=receipt.delivery)
    assert later.merged_with(receipt).is_finished


def test_an_attempt_that_failed_as_a_whole_is_not_finished() -> None:
    receipt = Receipt.read(FAILED.encode())

    assert receipt.unsettled == {EVENT: "internal error: KeyError"}
    assert replace(receipt, attempts=2, items={"67c8": "stored"}).merged_with(receipt).is_finished


def test_an_unrecognised_body_is_read() -> None:
    receipt = Receipt.read_with_payload(UNRECOGNISED.encode())

    assert (receipt.kind, receipt.payload, receipt.is_finished) == ("unrecognised", b"\xff", True)
