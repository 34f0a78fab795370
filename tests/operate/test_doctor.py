"""`make doctor` of an installation in Google Cloud.

One of them: .venv/bin/pytest tests/operate/test_doctor.py -k wrong
"""

import json
from collections.abc import Callable

from support.operator import (
    API_KEY,
    HEALTHY,
    SIGNING_SECRET,
    Endpoint,
    Operator,
    receipts,
)


def test_the_doctor_finds_nothing_where_nothing_is_wrong(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    api = endpoint((200, []))
    receive = endpoint((400, {}), (204, {}))
    operator.answer(*HEALTHY, *receipts(EVENT_ID="done"), webhook_url=receive.url)

    assert operator.run("doctor", DIMMY_API_URL=api.url.rstrip("/")) == 0, operator.printed

    for line in ("answers, and accepts the key", "is refused", "is accepted", "All is fine."):
        assert line in operator.printed
    assert SIGNING_SECRET not in operator.printed
    assert API_KEY not in operator.printed
    assert "SIGNING" not in json.dumps(operator.calls)
    assert len(receive.requests) == 3  # unsigned, signed, and the one that goes all the way


def test_the_doctor_names_what_is_wrong_and_how_to_mend_it(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    api = endpoint((401, {"detail": "Invalid API key"}))
    receive = endpoint((400, {}), (401, {"message": "No signature matches"}))
    names = "ENV=dev PROJECT=warehouse-1"
    operator.answer(
        ("topics describe", "NOT_FOUND", 1),
        ("subscriptions describe", json.dumps({"pushConfig": {}}), 0),
        *HEALTHY,
        webhook_url=receive.url,
    )

    assert operator.run("doctor", DIMMY_API_URL=api.url.rstrip("/")) == 1

    said = " ".join(operator.printed.split())
    assert f"rejects the key (401) make secrets {names}, then make deploy {names}" in said
    assert f"does not exist make plan {names} shows what is missing" in said
    assert "pushes to nothing" in said
    assert "is refused with 401: No signature matches" in said
    assert "4 to solve." in said
    assert SIGNING_SECRET not in operator.printed
    assert API_KEY not in operator.printed


def test_before_the_first_deployment_the_doctor_says_what_comes_next(operator: Operator) -> None:
    operator.answer(("secrets versions list", "", 0), ("terraform output", "{}", 0))

    assert operator.run("doctor") == 1

    assert "is missing" in operator.printed
    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.printed
