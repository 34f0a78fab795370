"""Checks of what Terraform has created: that it still exists, and is connected."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from operate.google.gcloud import Gcloud
from operate.google.load_balancer import check_domain
from operate.google.refusals import advice_about_public_invoker
from operate.installation import Check

DELETED_TOPIC = "_deleted-topic_"  # the topic of a subscription whose topic was deleted
_INVOKER = "roles/run.invoker"
# https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions#State_1
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
    for name, command in (
        ("the topic", ("pubsub", "topics", "describe", outputs["topic"])),
        ("the bucket", ("storage", "buckets", "describe", f"gs://{outputs['bucket']}")),
    ):
        resource = command[-1].rpartition("/")[2]
        if gcloud.exists(*command):
            yield Check(name, resource)
        else:
            yield Check(name, f"{resource} does not exist", remedy)
    yield _check_subscription(gcloud, outputs, remedy)
    for name, subscription in outputs.get("bigquery_subscriptions", {}).items():
        described = gcloud.read_json("pubsub", "subscriptions", "describe", subscription)
        yield _check_bigquery(name, described, remedy)
    for name, function in outputs["functions"].items():
        yield check_invoker(gcloud, outputs["region"], name, function, remedy)
    if outputs.get("load_balancer_address"):
        yield from check_domain(gcloud, outputs, settings)


def describe_wrong_topic(described: Mapping[str, Any], outputs: Mapping[str, Any]) -> str:
    """What is wrong with the topic of the described subscription of `resolve`; empty if nothing.

    A topic that is deleted and created again does not get its subscriptions back: `receive` then
    answers 204, and nothing arrives.
    """
    topic = described.get("topic", "")
    if topic == outputs["topic"]:
        return ""
    return "its topic was deleted" if topic == DELETED_TOPIC else f"is of the topic {topic}"


def bigquery_state(described: Mapping[str, Any]) -> str:
    """The state of the described BigQuery subscription: ACTIVE, or why it writes nothing."""
    return str(described.get("bigqueryConfig", {}).get("state", "unknown"))


def _check_bigquery(name: str, described: Mapping[str, Any], remedy: str) -> Check:
    state = bigquery_state(described)
    if state == "ACTIVE":
        return Check(name, f"writes into {described['bigqueryConfig']['table']}")
    problem = _BIGQUERY_PROBLEMS.get(state, "see the subscription in the console")
    return Check(name, f"writes nothing: {state}, {problem}", remedy)


def _check_subscription(gcloud: Gcloud, outputs: Mapping[str, Any], remedy: str) -> Check:
    name = "the subscription"
    described = gcloud.read_json("pubsub", "subscriptions", "describe", outputs["subscription"])
    if wrong_topic := describe_wrong_topic(described, outputs):
        plan = gcloud.deployment.instructions.command("plan")
        return Check(name, f"gets no new event: {wrong_topic}", f"{plan} says how to replace it.")
    endpoint = described.get("pushConfig", {}).get("pushEndpoint", "")
    if endpoint.rstrip("/") == outputs["functions"]["resolve"]["url"].rstrip("/"):
        return Check(name, "pushes to resolve")
    return Check(name, f"pushes to {endpoint or 'nothing'}", remedy)


def check_invoker(
    gcloud: Gcloud, region: str, name: str, function: Mapping[str, Any], remedy: str
) -> Check:
    """Whether the caller of a function may call it; a replaced function forgets its callers."""
    title, service, invoker = f"the caller of {name}", function["name"], function["invoker"]
    if invoker is None:
        described = gcloud.read_json("run", "services", "describe", service, f"--region={region}")
        annotations = described.get("metadata", {}).get("annotations", {})
        if annotations.get(_UNCHECKED_INVOKER) == "true":
            return Check(title, "is not checked (public_invoker = false)")
        advice = advice_about_public_invoker(gcloud.deployment)
        return Check(title, "is refused, because public_invoker = false", advice)
    printed = gcloud.run(
        "run", "services", "get-iam-policy", service, f"--region={region}", "--format=json"
    )
    members = {
        member
        for binding in json.loads(printed or "{}").get("bindings", [])
        if binding["role"] == _INVOKER
        for member in binding["members"]
    }
    if invoker in members:
        return Check(title, f"{invoker} may call it")
    return Check(title, f"{invoker} may not call it", remedy)
