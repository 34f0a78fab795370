"""Pub/Sub: topics and subscriptions, whose messages can be pulled.

Nothing is pushed, and nothing is written into BigQuery.
"""

from collections.abc import Mapping, Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.apis.bigquery import BigQuery
from sandbox.google_cloud.errors import ApiError, Json, failed_precondition
from sandbox.google_cloud.messages import Queue, new_message
from sandbox.google_cloud.policies import policy_routes
from sandbox.google_cloud.project import Project
from sandbox.google_cloud.routes import Call, Route

_TOPIC = "v1/{name=projects/*/topics/*}"
_SUBSCRIPTION = "v1/{name=projects/*/subscriptions/*}"
_DELETED_TOPIC = "_deleted-topic_"
_ACK_DEADLINE_SECONDS = 10

# https://cloud.google.com/pubsub/docs/bigquery: without a schema, and with `writeMetadata`
_DATA_TYPES = {"data": {"BYTES", "STRING", "JSON"}}
_METADATA_TYPES = {
    "subscription_name": {"STRING"},
    "message_id": {"STRING"},
    "publish_time": {"TIMESTAMP"},
    "attributes": {"STRING", "JSON"},
}


class PubSub(Api):
    """A project's Pub/Sub.

    Attributes:
        empty_pulls: how many of the next pulls return nothing, as Google's may do.
        unknown_grant_answers: how many of the next BigQuery subscriptions are refused although
            the role is granted, because Pub/Sub does not know it yet.
    """

    name = "pubsub"
    missing = "Resource not found (resource={id})."
    taken = "Resource already exists in the project (resource={id})."

    def __init__(self, project: Project, bigquery: BigQuery) -> None:
        super().__init__(project)
        self.empty_pulls = 0
        self.unknown_grant_answers = 0
        self._bigquery = bigquery
        self._queues: dict[str, Queue] = {}

    def routes(self) -> Sequence[Route]:
        policies = self.project.policies
        return [
            Route("PUT", _TOPIC, self._create_topic),
            Route("GET", "v1/{parent=projects/*}/topics", lambda call: self._list(call, "topics")),
            Route("GET", _TOPIC, lambda call: self.resources.get(call["name"])),
            Route("PATCH", _TOPIC, lambda call: self._update(call, "topic")),
            Route("DELETE", _TOPIC, self._delete_topic),
            Route("POST", f"{_TOPIC}:publish", self._publish),
            Route("PUT", _SUBSCRIPTION, self._create_subscription),
            Route(
                "GET",
                "v1/{parent=projects/*}/subscriptions",
                lambda call: self._list(call, "subscriptions"),
            ),
            Route("GET", _SUBSCRIPTION, self._read_subscription),
            Route("PATCH", _SUBSCRIPTION, lambda call: self._update(call, "subscription")),
            Route("DELETE", _SUBSCRIPTION, self._delete_subscription),
            Route("POST", f"{_SUBSCRIPTION}:pull", self._pull),
            Route("POST", f"{_SUBSCRIPTION}:acknowledge", self._acknowledge),
            Route("POST", f"{_SUBSCRIPTION}:modifyAckDeadline", self._modify_ack_deadline),
            Route("POST", f"{_SUBSCRIPTION}:modifyPushConfig", self._modify_push_config),
            *policy_routes(_TOPIC, policies, self.policy_key),
            *policy_routes(_SUBSCRIPTION, policies, self.policy_key),
        ]

    def put(self, subscription_id: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Put a message into a subscription; return its id."""
        message = new_message(data, attributes)
        self._queues[f"{self.project.name}/subscriptions/{subscription_id}"].add(message)
        return str(message["messageId"])

    def messages(self, subscription_id: str) -> list[Json]:
        """The messages of a subscription that are not acknowledged."""
        queue = self._queues[f"{self.project.name}/subscriptions/{subscription_id}"]
        return queue.messages

    def _create_topic(self, call: Call) -> Json:
        policy = call.body.get("messageStoragePolicy", {})
        regions = policy.get("allowedPersistenceRegions", [])
        if refused := [r for r in regions if not self.project.allows_location(r)]:
            raise failed_precondition(
                "The requested message storage policy contains the following GCP regions that are"
                f" not allowed by the project's organization policy: {', '.join(refused)}. The"
                " organization policy may be updated by your project or organization administrator."
            )
        return self.resources.create(call["name"], call.body | {"name": call["name"]})

    def _create_subscription(self, call: Call) -> Json:
        self.resources.get(call.body.get("topic", ""))
        if config := call.body.get("bigqueryConfig"):
            self._check_bigquery(config)
        self._queues.setdefault(call["name"], Queue())
        defaults = {"ackDeadlineSeconds": _ACK_DEADLINE_SECONDS, "pushConfig": {}}
        subscription = defaults | call.body | {"name": call["name"], "state": "ACTIVE"}
        return self.resources.create(call["name"], subscription)

    def _read_subscription(self, call: Call) -> Json:
        subscription = self.resources.get(call["name"])
        if config := subscription.get("bigqueryConfig"):
            config["state"] = self._bigquery_state(config)
        return subscription

    def _check_bigquery(self, config: Json) -> None:
        """Raise ApiError where Pub/Sub could not write: 403, 404, 400 for its columns."""
        if self.unknown_grant_answers:
            self.unknown_grant_answers -= 1
            raise ApiError(403, "The caller does not have permission")
        state = self._bigquery_state(config)
        if state == "PERMISSION_DENIED":
            raise ApiError(403, "The caller does not have permission")
        if state == "NOT_FOUND":
            raise ApiError(404, f"Resource not found (resource={config['table']}).")
        if state == "SCHEMA_MISMATCH":
            raise ApiError(400, f"Incompatible schema of the table {config['table']}.")

    def _bigquery_state(self, config: Json) -> str:
        if not self._bigquery.can_write(config["table"], self._agent):
            return "PERMISSION_DENIED"
        try:
            columns = self._bigquery.columns(config["table"])
        except ApiError:
            return "NOT_FOUND"
        accepted = _DATA_TYPES | (_METADATA_TYPES if config.get("writeMetadata") else {})
        if all(columns.get(name) in types for name, types in accepted.items()):
            return "ACTIVE"
        return "SCHEMA_MISMATCH"

    @property
    def _agent(self) -> str:
        return f"service-{self.project.number}@gcp-sa-pubsub.iam.gserviceaccount.com"

    def _list(self, call: Call, kind: str) -> Json:
        return {kind: self.resources.below(f"{call['parent']}/{kind}")}

    def _update(self, call: Call, kind: str) -> Json:
        return self.resources.patch(call["name"], call.body.get(kind, {}), call.update_mask)

    def _delete_topic(self, call: Call) -> Json:
        self.delete(call["name"])
        for subscription in self.resources.below(f"{self.project.name}/subscriptions"):
            if subscription["topic"] == call["name"]:
                subscription["topic"] = _DELETED_TOPIC
        return {}

    def _delete_subscription(self, call: Call) -> Json:
        self.delete(call["name"])
        del self._queues[call["name"]]
        return {}

    def _publish(self, call: Call) -> Json:
        self.resources.get(call["name"])
        published = []
        for given in call.body.get("messages", []):
            message = given | new_message(b"", given.get("attributes", {}), given.get("data", ""))
            published.append(message)
            for subscription in self.resources.below(f"{self.project.name}/subscriptions"):
                if subscription["topic"] == call["name"]:
                    self._queues[subscription["name"]].add(message)
        return {"messageIds": [message["messageId"] for message in published]}

    def _pull(self, call: Call) -> Json:
        subscription = self.resources.get(call["name"])
        if subscription["pushConfig"].get("pushEndpoint"):
            raise failed_precondition(
                "This method is not supported for this subscription type. For push subscriptions,"
                " messages are sent to the endpoint."
            )
        if self.empty_pulls:
            self.empty_pulls -= 1
            return {}
        received = self._queues[call["name"]].pull(
            int(call.body.get("maxMessages", 1)), subscription["ackDeadlineSeconds"]
        )
        return {"receivedMessages": received}

    def _acknowledge(self, call: Call) -> Json:
        self.resources.get(call["name"])
        self._queues[call["name"]].acknowledge(call.body.get("ackIds", []))
        return {}

    def _modify_ack_deadline(self, call: Call) -> Json:
        self.resources.get(call["name"])
        seconds = int(call.body.get("ackDeadlineSeconds", 0))
        if not 0 <= seconds <= 600:
            raise ApiError(400, "The acknowledgement deadline must be from 0 to 600 seconds.")
        self._queues[call["name"]].lease(call.body.get("ackIds", []), seconds)
        return {}

    def _modify_push_config(self, call: Call) -> Json:
        subscription = self.resources.get(call["name"])
        subscription["pushConfig"] = call.body.get("pushConfig", {})
        return {}
