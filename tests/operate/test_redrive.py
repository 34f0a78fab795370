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
    time_series,
)
from support.waiting import wait_for


def test_redrive_pushes_dead_letters_to_resolve_then_restores_the_subscription(
    operator: Operator,
) -> None:
    operator.set_answers(*dead_letters("msg_1", "msg_2"), *receipts(msg_1="done", msg_2="partial"))

    assert operator.run("redrive", YES="1", PAUSE_SECONDS="0.1", PATIENCE_SECONDS="1") == 1

    subscription = DEPLOYED["dead_letter_subscription"]
    returned = operator.call("modify-message-ack-deadline")
    assert {"--ack-ids=ack-msg_1,ack-msg_2", "--ack-deadline=0", subscription} <= set(returned)
    first_hold, push, last_hold = [call for call in operator.calls if "modify-push-config" in call]
    assert push[4:8] == [
        subscription,
        "--push-endpoint=https://resolve.a.run.app",
        "--push-auth-service-account=dimmy-dev-pusher@warehouse-1.iam.gserviceaccount.com",
        "--push-auth-token-audience=https://resolve.a.run.app",
    ]
    assert first_hold[4:6] == last_hold[4:6] == [subscription, "--push-endpoint="]
    first_call = next(call for call in operator.calls if "pubsub" in call)
    assert first_call == first_hold, "a push subscription cannot be pulled from"
    assert "2 dead letters." in operator.printed
    assert "msg_2  partial, 1 item not stored: 404: Item not found" in operator.printed
    assert operator.printed.rstrip().endswith("1 are left.")


def test_redrive_asks_before_it_pushes(operator: Operator) -> None:
    operator.set_answers(*dead_letters("msg_1"), *receipts(msg_1="partial"))

    assert operator.type("redrive", "no") == 2

    assert not any("resolve.a.run.app" in part for call in operator.calls for part in call)


@pytest.mark.parametrize("counted", [0, 3])
def test_redrive_pushes_nothing_and_reports_the_count_if_no_dead_letter_can_be_pulled(
    operator: Operator, endpoint: Callable[..., Endpoint], counted: int
) -> None:
    operator.set_answers(("subscriptions pull", "[]", 0))
    monitoring = endpoint((200, time_series(counted)))

    status = operator.run("redrive", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url)

    assert "0 dead letters." in operator.printed
    assert not any("resolve.a.run.app" in part for call in operator.calls for part in call)
    assert status == bool(counted)
    assert ("counted 3" in operator.printed) == bool(counted)


def test_an_interrupted_redrive_restores_the_subscription(operator: Operator) -> None:
    operator.set_answers(*dead_letters("msg_1"), *receipts(msg_1="partial"))
    running = operator.start("redrive", YES="1", PAUSE_SECONDS="0.1")

    wait_for(lambda: any("resolve.a.run.app" in " ".join(call) for call in operator.calls))
    running.send_signal(2)

    assert running.wait(30) == 130
    assert "--push-endpoint=" in operator.calls[-2] or "--push-endpoint=" in operator.calls[-1]


def test_dead_letters_without_a_receipt_are_listed(operator: Operator) -> None:
    no_receipt = ("storage cat", "ERROR: The following URLs matched no objects or files", 1)
    operator.set_answers(*dead_letters("msg_1", "msg_2"), no_receipt)

    assert operator.run("redrive") == 2

    assert "msg_1  no receipt" in operator.printed


def test_an_empty_pull_is_not_taken_for_the_end(operator: Operator) -> None:
    """Pub/Sub may return no message although some wait."""
    first, second = dead_letters("msg_1") + dead_letters("msg_2")
    operator.set_answers(
        ("subscriptions pull", "[]", 0, 2),
        (*first, 1),
        ("subscriptions pull", "[]", 0, 2),
        (*second, 1),
        ("subscriptions pull", "[]", 0),
        *receipts(msg_1="partial", msg_2="partial"),
    )

    operator.run("redrive")

    assert "2 dead letters." in operator.printed
