"""`make doctor` of an installation in Google Cloud.

One of them: .venv/bin/pytest tests/operate/test_doctor.py -k remedy
"""

import json
import re
from collections.abc import Callable

import pytest

from support.operator import (
    API_KEY,
    DEPLOYED,
    HEALTHY,
    SIGNING_SECRET,
    Endpoint,
    Operator,
    receipts,
)


def test_doctor_finds_no_fault_in_a_healthy_installation(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    api = endpoint((200, [{"_id": "67c861de20bb29fb40d2cbbd"}]))
    receive = endpoint((400, {}), (204, {}))
    operator.set_answers(*HEALTHY, *receipts(EVENT_ID="done"), webhook_url=receive.url)

    assert operator.run("doctor", DIMMY_API_URL=api.url.rstrip("/")) == 0, operator.printed

    for line in ("answers, and accepts the key", "is refused", "is accepted", "All is fine."):
        assert line in operator.printed
    assert SIGNING_SECRET not in operator.printed
    assert API_KEY not in operator.printed
    assert "SIGNING" not in json.dumps(operator.calls)
    assert len(receive.requests) == 3  # unsigned, signed, and the one looked up in storage


def test_doctor_asks_the_api_of_the_environment(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    api = endpoint((200, [{"_id": "67c861de20bb29fb40d2cbbd"}]))
    operator.add_variables(f'dimmy_api_url = "{api.url.rstrip("/")}"')
    operator.set_answers(*HEALTHY)

    operator.run("doctor")

    assert "answers, and accepts the key" in operator.printed


def test_doctor_finds_no_fault_where_this_machine_is_no_allowed_source(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    api = endpoint((200, [{"_id": "67c861de20bb29fb40d2cbbd"}]))
    receive = endpoint((403, {}))
    operator.set_answers(*HEALTHY, webhook_url=receive.url)

    assert operator.run("doctor", DIMMY_API_URL=api.url.rstrip("/")) == 0, operator.printed

    assert "this machine is none of the allowed sources" in operator.printed
    assert len(receive.requests) == 1


def test_doctor_names_each_fault_and_its_remedy(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    api = endpoint((401, {"detail": "Invalid API key"}))
    receive = endpoint((400, {}), (401, {"message": "No signature matches"}))
    names = "ENV=dev PROJECT=warehouse-1"
    operator.set_answers(
        ("topics describe", "NOT_FOUND", 1),
        ("subscriptions describe", json.dumps({"topic": DEPLOYED["topic"]}), 0),
        *HEALTHY,
        webhook_url=receive.url,
    )

    assert operator.run("doctor", DIMMY_API_URL=api.url.rstrip("/")) == 1

    output = " ".join(operator.printed.split())
    assert f"rejects the key (401) make secrets {names}, then make rotate {names}" in output
    assert f"does not exist make plan {names} shows what is missing" in output
    assert "pushes to nothing" in output
    assert "is refused with 401: No signature matches" in output
    assert "4 to solve." in output
    assert SIGNING_SECRET not in operator.printed
    assert API_KEY not in operator.printed


def test_doctor_names_the_next_step_before_the_first_deployment(operator: Operator) -> None:
    operator.set_answers(("secrets versions list", "", 0), ("terraform output", "{}", 0))

    assert operator.run("doctor") == 1

    assert "is missing" in operator.printed
    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.printed


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("REQUESTS_CA_BUNDLE", "/missing.pem", "names no file that can be read"),
        ("HTTPS_PROXY", "socks5://127.0.0.1:1080", "names a SOCKS proxy"),
    ],
)
def test_doctor_names_what_is_wrong_with_its_own_network(
    operator: Operator, endpoint: Callable[..., Endpoint], name: str, value: str, problem: str
) -> None:
    receive = endpoint((400, {}), (204, {}))
    operator.set_answers(*HEALTHY, *receipts(EVENT_ID="done"), webhook_url=receive.url)

    assert operator.run("doctor", **{name: value}) == 1

    assert f"{name} " in operator.printed
    assert problem in operator.printed
    assert "is accepted" in operator.printed, "the other checks have been left out"
    assert "Traceback" not in operator.printed


def test_doctor_survives_a_check_that_fails_itself(operator: Operator) -> None:
    operator.set_answers(
        ("topics describe", "", 0), ("subscriptions describe", "no JSON", 0), *HEALTHY
    )

    assert operator.run("doctor", DIMMY_API_URL="https://127.0.0.1:1") == 1

    assert "cannot be checked: JSONDecodeError" in operator.printed
    assert "the endpoint" in operator.printed
    assert "Traceback" not in operator.printed


def test_doctor_and_status_name_a_subscription_whose_topic_was_deleted(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    described = {"topic": "_deleted-topic_", "pushConfig": {"pushEndpoint": "https://r.a.run.app"}}
    operator.set_answers(("subscriptions describe", json.dumps(described), 0), *HEALTHY)

    operator.run("doctor", DIMMY_API_URL="https://127.0.0.1:1")
    assert "gets no new event: its topic was deleted" in operator.printed
    monitoring = endpoint((200, {}))
    operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url)
    assert "gets no new event: its topic was deleted" in operator.printed


ARCHIVE = {"name": "dimmy-dev-archive", "url": "https://archive.a.run.app", "invoker": "pusher"}
WITH_ITEMS = {
    "functions": DEPLOYED["functions"] | {"archive": ARCHIVE},
    "items_topic": "projects/warehouse-1/topics/dimmy-dev-item-versions",
    "item_dead_letter_subscriptions": {"archive": "a", "subscriber-wms": "b"},
}


def pushing_to(url: str, topic: str = WITH_ITEMS["items_topic"]) -> str:
    return json.dumps({"topic": topic, "pushConfig": {"pushEndpoint": url}})


def test_doctor_checks_the_items_topic_and_its_subscriptions(operator: Operator) -> None:
    operator.set_answers(
        ("subscriptions describe dimmy-dev-archive", pushing_to(f"{ARCHIVE['url']}/"), 0),
        ("subscriptions describe dimmy-dev-subscriber-wms", pushing_to("https://wms.example"), 0),
        *HEALTHY,
        **WITH_ITEMS,
    )

    operator.run("doctor", DIMMY_API_URL="https://127.0.0.1:1")

    for row in (
        r"fine +the items topic +dimmy-dev-item-versions",
        r"fine +archive +pushes to https://archive.a.run.app/",
        r"fine +subscriber-wms +pushes to https://wms.example",
    ):
        assert re.search(row, operator.printed), row


def test_doctor_and_status_name_faults_of_the_items_topic_and_its_subscriptions(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    names = "ENV=dev PROJECT=warehouse-1"
    detached = pushing_to("https://wms.example", "_deleted-topic_")
    operator.set_answers(
        ("topics describe dimmy-dev-item-versions", "NOT_FOUND", 1),
        ("subscriptions describe dimmy-dev-archive", "NOT_FOUND", 1),
        ("subscriptions describe dimmy-dev-subscriber-wms", detached, 0),
        *HEALTHY,
        **WITH_ITEMS,
    )

    operator.run("doctor", DIMMY_API_URL="https://127.0.0.1:1")
    restored = f"make deploy {names} creates it again. Then send the items that it has missed: make"
    output = " ".join(operator.printed.split())
    for text in (
        f"the items topic dimmy-dev-item-versions does not exist make plan {names} shows",
        f"archive does not exist {restored} republish SINCE=... {names}",
        f"subscriber-wms gets nothing: its topic was deleted {restored} republish",
    ):
        assert text in output, text
    monitoring = endpoint((200, {}))
    operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url)
    assert re.search(rf"archive +does not exist +make doctor {names}", operator.printed)
    assert re.search(r"subscriber-wms +gets nothing: its topic was deleted", operator.printed)


def test_doctor_names_a_function_of_items_that_is_not_pushed_to(operator: Operator) -> None:
    operator.set_answers(
        ("subscriptions describe dimmy-dev-archive", pushing_to("https://old.a.run.app"), 0),
        *HEALTHY,
        **WITH_ITEMS,
    )

    operator.run("doctor", DIMMY_API_URL="https://127.0.0.1:1")

    assert re.search(r"WRONG archive +pushes to https://old.a.run.app", operator.printed)


def test_doctor_names_what_was_deleted_and_checks_the_rest(operator: Operator) -> None:
    operator.set_answers(
        ("subscriptions describe dimmy-dev-resolve", "NOT_FOUND", 1),
        ("get-iam-policy dimmy-dev-receive", "NOT_FOUND", 1),
        *HEALTHY,
    )

    operator.run("doctor", DIMMY_API_URL="https://127.0.0.1:1")

    output = " ".join(operator.printed.split())
    assert "the subscription does not exist make plan" in output
    assert "Then store what it has missed: make backfill SINCE=..." in output
    assert "the caller of receive dimmy-dev-receive does not exist make plan" in output
    assert re.search(r"fine +the caller of reconcile", operator.printed)


def test_doctor_names_a_function_that_has_lost_its_callers(operator: Operator) -> None:
    operator.set_answers(("get-iam-policy dimmy-dev-resolve", "{}", 0), *HEALTHY)

    operator.run("doctor", DIMMY_API_URL="https://127.0.0.1:1")

    pusher = "serviceAccount:dimmy-dev-pusher@warehouse-1.iam.gserviceaccount.com"
    assert f"{pusher} may not call it" in operator.printed
    assert "allUsers may call it" in operator.printed


@pytest.mark.parametrize("disabled", ["true", None])
def test_doctor_knows_the_two_ways_to_be_public(operator: Operator, disabled: str | None) -> None:
    functions = DEPLOYED["functions"]
    receive = functions["receive"] | {"invoker": None}
    annotations = {"run.googleapis.com/invoker-iam-disabled": disabled} if disabled else {}
    service = {"metadata": {"annotations": annotations}}
    operator.set_answers(
        ("services describe dimmy-dev-receive", json.dumps(service), 0),
        *HEALTHY,
        functions=functions | {"receive": receive},
    )

    operator.run("doctor", DIMMY_API_URL="https://127.0.0.1:1")

    assert ("is not checked (public_invoker = false)" in operator.printed) == bool(disabled)
    assert ("--no-invoker-iam-check" in operator.printed) == (not disabled)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("PERMISSION_DENIED", "writes nothing: PERMISSION_DENIED, Pub/Sub's service agent may not"),
        ("NOT_FOUND", "writes nothing: NOT_FOUND, the dataset or the table was deleted"),
        ("IN_TRANSIT_LOCATION_RESTRICTION", "writes nothing: IN_TRANSIT_LOCATION_RESTRICTION, see"),
        ("ACTIVE", "writes into warehouse-1.dimmy_dev.item_versions"),
    ],
)
def test_doctor_and_status_show_the_state_of_a_bigquery_subscription(
    operator: Operator, endpoint: Callable[..., Endpoint], state: str, shown: str
) -> None:
    name = "dimmy-dev-item-versions-bigquery"
    table = "warehouse-1.dimmy_dev.item_versions"
    described = {"topic": "t", "bigqueryConfig": {"table": table, "state": state}}
    operator.set_answers(
        (f"subscriptions describe {name}", json.dumps(described), 0),
        *HEALTHY,
        item_dead_letter_subscriptions={"item-versions-bigquery": f"{name}-dead-letters"},
    )

    operator.run("doctor", DIMMY_API_URL="https://127.0.0.1:1")
    assert shown in " ".join(operator.printed.split())
    monitoring = endpoint((200, {}))
    operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url)
    assert f"item-versions-bigquery {state}" in " ".join(operator.printed.split())
