"""Checks of what Terraform has created: that it still exists, and is connected."""

from collections.abc import Iterator, Mapping
from typing import Any

from operate.google.gcloud import Gcloud
from operate.google.load_balancer import check_domain
from operate.google.refusals import advice_about_public_invoker
from operate.installation import Check

DELETED_TOPIC = "_deleted-topic_"  # the topic of a subscription whose topic was deleted
_MISSING = "does not exist"
_DETACHED = "gets nothing: its topic was deleted"
_INVOKER = "roles/run.invoker"
# https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions#State_1
_ACTIVE = "ACTIVE"
_BIGQUERY_PROBLEMS = {
    "PERMISSION_DENIED": "Pub/Sub's service agent may not write into the dataset",
    "NOT_FOUND": "the dataset or the table was deleted",
    "SCHEMA_MISMATCH": "the columns of the table were changed",
}
_UNCHECKED_INVOKER = "run.googleapis.com/invoker-iam-disabled"


def check_resources(
    gcloud: Gcloud, outputs: Mapping[str, Any], settings: Mapping[str, str]
) -> Iterator[Check]:
    """The checks of an installation with these outputs of Terraform. Raises CommandError."""
    instructions = gcloud.deployment.instructions
    remedy = (
        f"{instructions.command('plan')} shows what is missing;"
        f" {instructions.command('deploy')} restores it."
    )
    commands = {
        "the topic": ("pubsub", "topics", "describe", outputs["topic"]),
        "the bucket": ("storage", "buckets", "describe", f"gs://{outputs['bucket']}"),
    }
    if outputs.get("items_topic"):
        commands["the items topic"] = ("pubsub", "topics", "describe", outputs["items_topic"])
    for name, command in commands.items():
        resource = command[-1].rpartition("/")[2]
        if gcloud.exists(*command):
            yield Check(name, resource)
        else:
            yield Check(name, f"{resource} {_MISSING}", remedy)
    yield _check_subscription(gcloud, outputs, remedy)
    for name, described in describe_item_subscriptions(gcloud, outputs):
        yield _check_item_subscription(gcloud, outputs, name, described, remedy)
    for name, function in outputs["functions"].items():
        yield check_invoker(gcloud, outputs["region"], name, function, remedy)
    if outputs.get("load_balancer_address"):
        yield from check_domain(gcloud, outputs, settings)


def describe_item_subscriptions(
    gcloud: Gcloud, outputs: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """The optional subscriptions (BigQuery, `archive`, the item subscribers), by their names.

    None for one that does not exist any more.
    """
    for name in outputs.get("item_dead_letter_subscriptions", {}):
        subscription = f"{gcloud.deployment.prefix}-{name}"
        yield name, gcloud.find_json("pubsub", "subscriptions", "describe", subscription)


def describe_item_fault(described: Mapping[str, Any] | None) -> str:
    """Why an optional subscription gets or writes nothing, in a few words; empty if it does."""
    if described is None:
        return _MISSING
    if described.get("topic") == DELETED_TOPIC:
        return _DETACHED
    state = described.get("bigqueryConfig", {"state": _ACTIVE}).get("state", "unknown")
    return "" if state == _ACTIVE else str(state)


def describe_wrong_topic(described: Mapping[str, Any], outputs: Mapping[str, Any]) -> str:
    """What is wrong with the topic of the described subscription of `resolve`; empty if nothing.

    A topic that is deleted and created again does not get its subscriptions back: `receive` then
    answers 204, and nothing arrives.
    """
    topic = described.get("topic", "")
    if topic == outputs["topic"]:
        return ""
    return "its topic was deleted" if topic == DELETED_TOPIC else f"is of the topic {topic}"


def _check_subscription(gcloud: Gcloud, outputs: Mapping[str, Any], remedy: str) -> Check:
    name = "the subscription"
    described = gcloud.find_json("pubsub", "subscriptions", "describe", outputs["subscription"])
    if described is None:
        backfill = gcloud.deployment.instructions.command("backfill", SINCE="...")
        return Check(name, _MISSING, f"{remedy} Then store what it has missed: {backfill}")
    if wrong_topic := describe_wrong_topic(described, outputs):
        plan = gcloud.deployment.instructions.command("plan")
        return Check(name, f"gets no new event: {wrong_topic}", f"{plan} says how to replace it.")
    endpoint = described.get("pushConfig", {}).get("pushEndpoint", "")
    if _is_same_url(endpoint, outputs["functions"]["resolve"]):
        return Check(name, "pushes to resolve")
    return Check(name, f"pushes to {endpoint or 'nothing'}", remedy)


def _check_item_subscription(
    gcloud: Gcloud,
    outputs: Mapping[str, Any],
    name: str,
    described: Mapping[str, Any] | None,
    remedy: str,
) -> Check:
    fault = describe_item_fault(described)
    if described is None or fault == _DETACHED:
        command = gcloud.deployment.instructions.command
        return Check(
            name,
            fault,
            f"{command('deploy')} creates it again. Then send the items that it has missed:"
            f" {command('republish', SINCE='...')}",
        )
    if fault:
        problem = _BIGQUERY_PROBLEMS.get(fault, "see the subscription in the console")
        return Check(name, f"writes nothing: {fault}, {problem}", remedy)
    if "bigqueryConfig" in described:
        return Check(name, f"writes into {described['bigqueryConfig']['table']}")
    endpoint = described.get("pushConfig", {}).get("pushEndpoint", "")
    function = outputs["functions"].get(name)
    is_right = _is_same_url(endpoint, function) if function else bool(endpoint)
    return Check(name, f"pushes to {endpoint or 'nothing'}", "" if is_right else remedy)


def _is_same_url(endpoint: str, function: Mapping[str, Any]) -> bool:
    return endpoint.rstrip("/") == str(function["url"]).rstrip("/")


def check_invoker(
    gcloud: Gcloud, region: str, name: str, function: Mapping[str, Any], remedy: str
) -> Check:
    """Whether the caller of a function may call it; a replaced function forgets its callers."""
    title, service, invoker = f"the caller of {name}", function["name"], function["invoker"]
    if invoker is None:
        described = gcloud.find_json("run", "services", "describe", service, f"--region={region}")
        if described is None:
            return Check(title, f"{service} {_MISSING}", remedy)
        annotations = described.get("metadata", {}).get("annotations", {})
        if annotations.get(_UNCHECKED_INVOKER) == "true":
            return Check(title, "is not checked (public_invoker = false)")
        advice = advice_about_public_invoker(gcloud.deployment)
        return Check(title, "is refused, because public_invoker = false", advice)
    policy = gcloud.find_json("run", "services", "get-iam-policy", service, f"--region={region}")
    if policy is None:
        return Check(title, f"{service} {_MISSING}", remedy)
    members = {
        member
        for binding in policy.get("bindings", [])
        if binding["role"] == _INVOKER
        for member in binding["members"]
    }
    if invoker in members:
        return Check(title, f"{invoker} may call it")
    return Check(title, f"{invoker} may not call it", remedy)
