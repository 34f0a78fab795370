"""`make redrive` of an installation in Google Cloud.

One of them: .venv/bin/pytest tests/operate/test_redrive.py -k interrupted
"""

from collections.abc import Callable

import pytest

from support.operator import (
    DEPLOYED,
    Endpoint,
    Operator,
    dead_letters,
    receipts,
    series,
)
from support.waiting import wait_for


def test_redrive_pushes_the_letters_to_resolve_and_holds_the_rest(operator: Operator) -> None:
    operator.answer(*dead_letters("msg_1", "msg_2"), *receipts(msg_1="done", msg_2="partial"))

    assert operator.run("redrive", YES="1", PAUSE_SECONDS="0.1", PATIENCE_SECONDS="1") == 1

    subscription = DEPLOYED["dead_letter_subscription"]
    back = operator.call("modify-message-ack-deadline")
    assert {"--ack-ids=ack-msg_1,ack-msg_2", "--ack-deadline=0", subscription} <= set(back)
    held, push, hold = [call for call in operator.calls if "modify-push-config" in call]
    assert push[4:8] == [
        subscription,
        "--push-endpoint=https://resolve.a.run.app",
        "--push-auth-service-account=dimmy-dev-pusher@warehouse-1.iam.gserviceaccount.com",
        "--push-auth-token-audience=https://resolve.a.run.app",
    ]
    assert held[4:6] == hold[4:6] == [subscription, "--push-endpoint="]
    first = next(call for call in operator.calls if "pubsub" in call)
    assert first == held, "what pushes cannot be pulled from"
    assert "2 dead letters were there." in operator.printed
    assert "msg_2  partial, 1 item not stored: 404: Item not found" in operator.printed
    assert operator.printed.rstrip().endswith("1 are left.")


def test_redrive_asks_before_it_pushes(operator: Operator) -> None:
    operator.answer(*dead_letters("msg_1"), *receipts(msg_1="partial"))

    assert operator.type("redrive", "no") == 2

    assert not any("resolve.a.run.app" in part for call in operator.calls for part in call)


@pytest.mark.parametrize("counted", [0, 3])
def test_redrive_without_letters_pushes_nothing_and_tells_of_those_that_rest(
    operator: Operator, endpoint: Callable[..., Endpoint], counted: int
) -> None:
    operator.answer(("subscriptions pull", "[]", 0))
    monitoring = endpoint((200, series(counted)))

    status = operator.run("redrive", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url)

    assert "0 dead letters were there." in operator.printed
    assert not any("resolve.a.run.app" in part for call in operator.calls for part in call)
    assert status == bool(counted)
    assert ("counted 3" in operator.printed) == bool(counted)


def test_a_redrive_that_is_interrupted_holds_the_letters_again(operator: Operator) -> None:
    operator.answer(*dead_letters("msg_1"), *receipts(msg_1="partial"))
    running = operator.start("redrive", YES="1", PAUSE_SECONDS="0.1")

    wait_for(lambda: any("resolve.a.run.app" in " ".join(call) for call in operator.calls))
    running.send_signal(2)

    assert running.wait(30) == 130
    assert "--push-endpoint=" in operator.calls[-2] or "--push-endpoint=" in operator.calls[-1]


def test_letters_without_a_receipt_are_shown_as_such(operator: Operator) -> None:
    nothing = ("storage cat", "ERROR: The following URLs matched no objects or files", 1)
    operator.answer(*dead_letters("msg_1", "msg_2"), nothing)

    assert operator.run("redrive") == 2

    assert "msg_1  no receipt" in operator.printed
