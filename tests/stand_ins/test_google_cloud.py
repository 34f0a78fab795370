"""The local Google Cloud keeps what gcloud gives it, and refuses what Google refuses.

One of them: .venv/bin/pytest tests/stand_ins/test_google_cloud.py -k agent
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
import requests

from pipeline.store.objects import open_storage
from pipeline.store.settings import StorageSettings
from sandbox.background import Background
from sandbox.google_cloud.server import GoogleCloud
from support.google_cloud import APIS, Client
from support.programs import needs

REGION = "europe-west1"
AGENT = "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
EVERYONE = {"policy": {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}]}}


@pytest.fixture
def client(background: Background, tmp_path: Path) -> Iterator[Client]:
    """A project in which the APIs are enabled; at the end no request was unknown."""
    cloud = GoogleCloud()
    cloud.project.enable(*APIS)
    background.run(cloud.start())
    yield Client(cloud, tmp_path)
    background.run(cloud.stop())
    assert cloud.unknown == []


@pytest.fixture
def cloud(client: Client) -> GoogleCloud:
    return client.cloud


def refusal(response: requests.Response) -> tuple[int, str, str]:
    """Code, status (or reason of the older APIs) and message."""
    error = response.json()["error"]
    status = error.get("status") or error["errors"][0]["reason"]
    return response.status_code, status, error["message"]


def create_account(client: Client, account: str = "dimmy-dev-receiver") -> str:
    """Create a service account; return its e-mail address."""
    body = {"accountId": account}
    return str(client.create("POST", "iam/v1/@/serviceAccounts", body)["email"])


def create_secret(client: Client, *readers: str) -> None:
    """Create the secret `key`, which these accounts may read."""
    replication: dict[str, Any] = {"replication": {"automatic": {}}}
    client.create("POST", "secretmanager/v1/@/secrets", replication, secretId="key")
    members = [f"serviceAccount:{email}" for email in readers]
    binding = {"role": "roles/secretmanager.secretAccessor", "members": members}
    policy = {"policy": {"bindings": [binding]}}
    client.create("POST", "secretmanager/v1/@/secrets/key:setIamPolicy", policy)


def deploy(client: Client, account: str, version: str = "1") -> requests.Response:
    """Create the function `receive`, which reads a version of the secret `key`."""
    secret = {"key": "KEY", "projectId": "warehouse-1", "secret": "key", "version": version}
    function = {
        "buildConfig": {"runtime": "python312", "entryPoint": "receive"},
        "serviceConfig": {
            "serviceAccountEmail": account,
            "secretEnvironmentVariables": [secret],
        },
    }
    path = f"cloudfunctions/v2/@/locations/{REGION}/functions"
    return client.rest("POST", path, function, functionId="receive")


# Access


def test_a_request_without_a_token_is_refused(cloud: GoogleCloud) -> None:
    answer = requests.get(f"{cloud.url}/pubsub/v1/projects/warehouse-1/topics", timeout=10)

    assert refusal(answer)[:2] == (401, "UNAUTHENTICATED")


def test_an_unknown_request_is_answered_with_501_and_recorded(client: Client) -> None:
    assert refusal(client.rest("GET", "pubsub/v1/@/snapshots"))[:2] == (501, "UNIMPLEMENTED")

    unknown = [("GET", "/pubsub/v1/projects/warehouse-1/snapshots")]
    assert client.cloud.unknown == unknown
    client.cloud.unknown.clear()


def test_another_project_is_refused(client: Client) -> None:
    assert client.rest("GET", "pubsub/v1/projects/another/topics").status_code == 403


@needs("gcloud")
def test_an_api_that_is_not_enabled_is_refused_until_gcloud_enables_it(client: Client) -> None:
    client.cloud.project.disable("pubsub")
    client.cloud.project.disabled_answers = 1

    refused = client.gcloud("pubsub", "topics", "create", "events")
    assert refused.status == 1
    assert "Cloud Pub/Sub API has not been used in project 123456789012" in refused.errors
    assert client.gcloud("services", "enable", "pubsub.googleapis.com").status == 0

    assert (
        "wait a few minutes for the action to propagate"
        in refusal(client.rest("PUT", "pubsub/v1/@/topics/events"))[2]
    )
    assert client.rest("PUT", "pubsub/v1/@/topics/events").status_code == 200
    details = client.rest("GET", "cloudbilling/v1/@/billingInfo").json()["error"]["details"]
    assert details[0]["reason"] == "SERVICE_DISABLED"
    assert details[0]["metadata"]["service"] == "cloudbilling.googleapis.com"


def test_an_unknown_service_cannot_be_enabled(client: Client) -> None:
    path = "serviceusage/v1/@/services/unknown.googleapis.com:enable"

    assert refusal(client.rest("POST", path))[:2] == (403, "PERMISSION_DENIED")


# IAM


def grant(client: Client, path: str, role: str, member: str, **more: Any) -> requests.Response:
    policy = {"bindings": [{"role": role, "members": [member]}], **more}
    return client.rest("POST", f"{path}:setIamPolicy", {"policy": policy})


def test_a_service_agent_has_to_be_created_before_roles_are_granted_to_it(client: Client) -> None:
    client.create("PUT", "pubsub/v1/@/topics/events")
    path = "pubsub/v1/@/topics/events"
    expected = f"Service account {AGENT.partition(':')[2]} does not exist."

    refused = grant(client, path, "roles/pubsub.publisher", AGENT)
    assert refusal(refused) == (400, "INVALID_ARGUMENT", expected)

    client.cloud.project.operations.polls = 1
    identity = "serviceusage/v1beta1/@/services/pubsub.googleapis.com:generateServiceIdentity"
    operation = client.create("POST", identity)
    assert "done" not in operation
    assert client.create("GET", f"serviceusage/v1/{operation['name']}")["done"]
    assert grant(client, path, "roles/pubsub.publisher", AGENT).status_code == 200


@needs("gcloud")
def test_roles_are_granted_to_existing_accounts_only(client: Client) -> None:
    email = create_account(client)
    grant_role = ("projects", "add-iam-policy-binding", "warehouse-1", "--role=roles/pubsub.viewer")

    refused = client.gcloud(
        *grant_role, "--member=serviceAccount:no@warehouse-1.iam.gserviceaccount.com"
    )
    assert "no@warehouse-1.iam.gserviceaccount.com does not exist" in refused.errors
    condition = "--condition=title=mine,expression=true"
    assert client.gcloud(*grant_role, f"--member=serviceAccount:{email}", condition).status == 0

    (binding,) = client.cloud.policy("cloudresourcemanager", "projects/warehouse-1")["bindings"]
    assert binding["members"] == [f"serviceAccount:{email}"]
    assert binding["condition"]["title"] == "mine"


def test_a_policy_that_was_changed_by_another_writer_is_not_replaced(client: Client) -> None:
    path = "cloudresourcemanager/v1/@"
    etag = client.create("POST", f"{path}:getIamPolicy")["etag"]

    assert grant(client, path, "roles/viewer", "user:a@example.com", etag=etag).status_code == 200
    refused = grant(client, path, "roles/viewer", "user:b@example.com", etag=etag)

    assert refusal(refused)[:2] == (409, "ABORTED")


# Organisation policies


@needs("gcloud")
def test_allowed_locations_refuse_global_secrets_topics_and_buckets(client: Client) -> None:
    client.cloud.project.allowed_locations = (REGION,)

    refused = client.gcloud("secrets", "create", "key", "--replication-policy=automatic")
    assert "attempting to create a secret in [global]" in refused.errors
    topic = {"messageStoragePolicy": {"allowedPersistenceRegions": ["us-east1"]}}
    answer = client.rest("PUT", "pubsub/v1/@/topics/events", topic)
    assert refusal(answer)[:2] == (400, "FAILED_PRECONDITION")
    answer = client.rest("POST", "storage/v1/b", {"name": "data", "location": "US"})
    expected = "'us' violates constraint 'constraints/gcp.resourceLocations'"
    assert refusal(answer) == (412, "conditionNotMet", expected)

    policy = client.gcloud(
        "resource-manager",
        "org-policies",
        "describe",
        "gcp.resourceLocations",
        "--effective",
        "--format=json",
    )
    allowed = json.loads(policy.out)["listPolicy"]["allowedValues"]
    assert allowed == ["in:europe-west1-locations"]


def test_domain_restricted_sharing_refuses_public_functions(client: Client) -> None:
    client.cloud.project.allows_public_members = False
    account = create_account(client)
    create_secret(client, account)
    client.cloud.secret_manager.add_version("key", b"value")
    deploy(client, account)

    service = f"run/v1/@/locations/{REGION}/services/receive:setIamPolicy"
    code, status, message = refusal(client.rest("POST", service, EVERYONE))

    assert (code, status) == (400, "FAILED_PRECONDITION")
    assert message.startswith("One or more users named in the policy do not belong to a permitted")


# Secrets


@needs("gcloud")
def test_versions_of_a_secret_are_kept_with_their_states(client: Client) -> None:
    create_secret(client)

    added = client.gcloud("secrets", "versions", "add", "key", "--data-file=-", stdin="first")
    assert added.status == 0, added.errors
    client.cloud.secret_manager.add_version("key", b"second")
    client.create("POST", "secretmanager/v1/@/secrets/key/versions/2:disable")
    options = ("--filter=state=ENABLED", "--sort-by=~createTime", "--limit=1")
    name = "--format=value(name.basename())"
    newest = client.gcloud("secrets", "versions", "list", "key", *options, name)
    assert newest.out == "1\n"
    assert client.gcloud("secrets", "versions", "access", "1", "--secret=key").out == "first"
    refused = client.gcloud("secrets", "versions", "access", "2", "--secret=key")

    assert "is in DISABLED state" in refused.errors
    assert client.cloud.secret_manager.values("key") == ["first", "second"]
    states = [version["state"] for version in client.cloud.secret_manager.versions("key")]
    assert states == ["ENABLED", "DISABLED"]


def test_a_missing_secret_and_a_taken_name_are_refused(client: Client) -> None:
    create_secret(client)
    path = "secretmanager/v1/@/secrets"

    taken = refusal(client.rest("POST", path, {"replication": {"automatic": {}}}, secretId="key"))
    assert taken == (
        409,
        "ALREADY_EXISTS",
        "Secret [projects/123456789012/secrets/key] already exists.",
    )
    missing = refusal(client.rest("GET", f"{path}/key/versions/latest:access"))
    assert missing[2].endswith("secrets/key] not found or has no versions.")


# Functions


@pytest.mark.parametrize(
    ("prepared", "version", "problem"),
    [
        ("no version", "1", "secrets/key/versions/1 was not found"),
        ("version", "2", "secrets/key/versions/2 was not found"),
        ("disabled version", "1", "secrets/key/versions/1 is in DISABLED state"),
        ("version that cannot be read", "1", "Permission denied on secret"),
    ],
)
def test_a_function_needs_the_versions_of_its_secrets(
    client: Client, prepared: str, version: str, problem: str
) -> None:
    account = create_account(client)
    create_secret(client, *([] if "read" in prepared else [account]))
    if prepared != "no version":
        added = client.cloud.secret_manager.add_version("key", b"value")
        added["state"] = "DISABLED" if "disabled" in prepared else "ENABLED"

    operation = deploy(client, account, version).json()

    assert operation["error"]["message"].startswith("Could not create or update Cloud Run service")
    assert problem in operation["error"]["message"]
    name = f"locations/{REGION}/functions/receive"
    function = client.cloud.resource("cloudfunctions", name)
    assert function
    assert function["state"] == "FAILED"


def test_a_function_needs_its_service_account(client: Client) -> None:
    create_secret(client)

    refused = deploy(client, "no@warehouse-1.iam.gserviceaccount.com")

    assert refusal(refused)[:2] == (403, "PERMISSION_DENIED")
    assert "iam.serviceaccounts.actAs" in refusal(refused)[2]


@needs("gcloud")
def test_a_deleted_function_loses_its_invoker(client: Client) -> None:
    account = create_account(client)
    create_secret(client, account)
    client.cloud.secret_manager.add_version("key", b"value")
    deploy(client, account)
    service = f"run/v1/@/locations/{REGION}/services/receive"
    client.create("POST", f"{service}:setIamPolicy", EVERYONE)
    described = client.gcloud(
        "functions", "describe", "receive", "--gen2", f"--region={REGION}", "--format=json"
    )
    assert json.loads(described.out)["state"] == "ACTIVE"

    client.create("DELETE", f"cloudfunctions/v2/@/locations/{REGION}/functions/receive")
    gone = refusal(client.rest("GET", f"{service}:getIamPolicy"))
    deploy(client, account)

    assert "'receive' of kind 'SERVICE' in region 'europe-west1'" in gone[2]
    assert "bindings" not in client.create("GET", f"{service}:getIamPolicy")


# Pub/Sub


def test_a_subscription_needs_its_topic_and_survives_it(client: Client) -> None:
    subscription = "pubsub/v1/@/subscriptions/resolve"
    topic = {"topic": "projects/warehouse-1/topics/events"}
    missing = (404, "NOT_FOUND", "Resource not found (resource=events).")
    assert refusal(client.rest("PUT", subscription, topic)) == missing
    client.create("PUT", "pubsub/v1/@/topics/events")
    client.create("PUT", subscription, topic)
    assert client.rest("PUT", subscription, topic).status_code == 409

    client.create("DELETE", "pubsub/v1/@/topics/events")

    assert client.create("GET", subscription)["topic"] == "_deleted-topic_"


@needs("gcloud")
def test_dead_letters_are_pulled_returned_and_acknowledged(client: Client) -> None:
    client.create("PUT", "pubsub/v1/@/topics/dead")
    topic = {"topic": "projects/warehouse-1/topics/dead", "ackDeadlineSeconds": 600}
    client.create("PUT", "pubsub/v1/@/subscriptions/dead", topic)
    client.cloud.pubsub.put("dead", b"a body", {"svix-id": "msg_1"})
    client.cloud.pubsub.empty_pulls = 1

    def pull(*options: str) -> Any:
        printed = client.gcloud(
            "pubsub", "subscriptions", "pull", "dead", "--limit=1000", "--format=json", *options
        )
        return json.loads(printed.out)

    assert pull() == []
    (pulled,) = pull()
    assert pulled["message"]["attributes"] == {"svix-id": "msg_1"}
    assert base64.b64decode(pulled["message"]["data"]) == b"a body"
    returned = client.gcloud(
        "pubsub",
        "subscriptions",
        "modify-message-ack-deadline",
        "dead",
        f"--ack-ids={pulled['ackId']}",
        "--ack-deadline=0",
    )
    assert returned.status == 0
    assert len(pull("--auto-ack")) == 1
    assert client.cloud.pubsub.messages("dead") == []


def test_messages_of_a_push_subscription_cannot_be_pulled(client: Client) -> None:
    client.create("PUT", "pubsub/v1/@/topics/dead")
    topic = {"topic": "projects/warehouse-1/topics/dead"}
    client.create("PUT", "pubsub/v1/@/subscriptions/dead", topic)
    push = {"pushConfig": {"pushEndpoint": "https://resolve.example"}}

    client.create("POST", "pubsub/v1/@/subscriptions/dead:modifyPushConfig", push)

    refused = client.rest("POST", "pubsub/v1/@/subscriptions/dead:pull", {"maxMessages": 1})
    assert refusal(refused)[:2] == (400, "FAILED_PRECONDITION")


def test_a_published_message_reaches_every_subscription(client: Client) -> None:
    client.create("PUT", "pubsub/v1/@/topics/events")
    for name in ("one", "two"):
        topic = {"topic": "projects/warehouse-1/topics/events"}
        client.create("PUT", f"pubsub/v1/@/subscriptions/{name}", topic)

    message = {"attributes": {"svix-id": "msg_1"}, "data": "eA=="}
    client.create("POST", "pubsub/v1/@/topics/events:publish", {"messages": [message]})

    for name in ("one", "two"):
        (stored,) = client.cloud.pubsub.messages(name)
        assert (stored["attributes"], stored["data"]) == ({"svix-id": "msg_1"}, "eA==")


# BigQuery

COLUMNS = {
    "subscription_name": "STRING",
    "message_id": "STRING",
    "publish_time": "TIMESTAMP",
    "data": "JSON",
    "attributes": "JSON",
}
DATASET = "bigquery/bigquery/v2/@/datasets/scans"


def create_table(client: Client, columns: dict[str, str] = COLUMNS) -> None:
    """Create the dataset `scans` with the table `versions`, and the topic `items`."""
    client.create("PUT", "pubsub/v1/@/topics/items")
    reference = {"datasetReference": {"datasetId": "scans"}, "location": REGION}
    client.create("POST", "bigquery/bigquery/v2/@/datasets", reference)
    fields = [{"name": name, "type": kind} for name, kind in columns.items()]
    table = {"tableReference": {"tableId": "versions"}, "schema": {"fields": fields}}
    partitions = {"timePartitioning": {"type": "DAY", "field": "publish_time"}}
    client.create("POST", f"{DATASET}/tables", table | partitions)


def let_pubsub_write(client: Client) -> requests.Response:
    """Grant the role as Terraform does: in the access list of the dataset."""
    access = client.create("GET", DATASET)["access"]
    entry = {"role": "roles/bigquery.dataEditor", "userByEmail": AGENT.partition(":")[2]}
    return client.rest("PATCH", DATASET, {"access": [*access, entry]})


def subscribe_bigquery(client: Client) -> requests.Response:
    config = {"table": "warehouse-1.scans.versions", "writeMetadata": True}
    body = {"topic": "projects/warehouse-1/topics/items", "bigqueryConfig": config}
    return client.rest("PUT", "pubsub/v1/@/subscriptions/bigquery", body)


def bigquery_state(client: Client) -> str:
    subscription = client.create("GET", "pubsub/v1/@/subscriptions/bigquery")
    return str(subscription["bigqueryConfig"]["state"])


def test_a_bigquery_subscription_needs_the_grant_on_the_dataset(client: Client) -> None:
    create_table(client)
    denied = (403, "PERMISSION_DENIED", "The caller does not have permission")
    assert refusal(subscribe_bigquery(client)) == denied
    assert "does not exist" in refusal(let_pubsub_write(client))[2]
    client.cloud.project.create_agent("gcp-sa-pubsub")
    assert let_pubsub_write(client).status_code == 200
    client.cloud.pubsub.unknown_grant_answers = 1

    assert refusal(subscribe_bigquery(client)) == denied
    assert subscribe_bigquery(client).status_code == 200

    assert client.create("GET", DATASET)["access"][-1]["role"] == "WRITER"
    assert bigquery_state(client) == "ACTIVE"


def test_a_bigquery_subscription_says_why_it_delivers_nothing(client: Client) -> None:
    create_table(client)
    client.cloud.project.create_agent("gcp-sa-pubsub")
    let_pubsub_write(client)
    subscribe_bigquery(client)
    access = client.create("GET", DATASET)["access"]

    client.create("PATCH", DATASET, {"access": access[:-1]})
    assert bigquery_state(client) == "PERMISSION_DENIED"
    client.create("PATCH", DATASET, {"access": access})
    client.create("DELETE", f"{DATASET}/tables/versions")
    assert bigquery_state(client) == "NOT_FOUND"


@pytest.mark.parametrize("missing", ["data", "attributes"])
def test_a_bigquery_subscription_needs_a_table_with_its_columns(
    client: Client, missing: str
) -> None:
    create_table(client, {name: kind for name, kind in COLUMNS.items() if name != missing})
    client.cloud.project.create_agent("gcp-sa-pubsub")
    let_pubsub_write(client)

    assert refusal(subscribe_bigquery(client))[:2] == (400, "INVALID_ARGUMENT")

    client.create("DELETE", f"{DATASET}/tables/versions")
    assert refusal(subscribe_bigquery(client))[:2] == (404, "NOT_FOUND")


def test_a_view_needs_its_table_and_a_partition_its_column(client: Client) -> None:
    create_table(client)
    view = {
        "tableReference": {"tableId": "items"},
        "view": {"query": "SELECT data FROM `warehouse-1.scans.others`"},
    }
    refused = client.rest("POST", f"{DATASET}/tables", view)
    assert refusal(refused) == (404, "notFound", "Not found: Table warehouse-1:scans.others")
    view["view"] = {"query": "SELECT data FROM `warehouse-1.scans.versions`"}
    assert client.create("POST", f"{DATASET}/tables", view)["type"] == "VIEW"

    table = {
        "tableReference": {"tableId": "others"},
        "timePartitioning": {"type": "DAY", "field": "none"},
    }
    assert refusal(client.rest("POST", f"{DATASET}/tables", table))[:2] == (400, "invalid")


# Storage


@needs("gcloud")
def test_objects_of_gcloud_and_of_obstore_are_the_same(client: Client, tmp_path: Path) -> None:
    created = client.gcloud(
        "storage",
        "buckets",
        "create",
        "gs://data",
        f"--location={REGION}",
        "--uniform-bucket-level-access",
        "--public-access-prevention",
    )
    assert created.status == 0, created.errors
    bucket = client.cloud.resource("storage", "data")
    assert bucket
    assert bucket["location"] == "EUROPE-WEST1"
    store = open_storage(StorageSettings("gs://data", client.cloud.url))
    obstore.put(store, "events/a b.json", b'{"a": 1}')
    (tmp_path / "b.json").write_text('{"b": 2}')

    copied = client.gcloud("storage", "cp", str(tmp_path / "b.json"), "gs://data/events/b.json")
    assert copied.status == 0, copied.errors
    read = client.gcloud("storage", "cat", "gs://data/events/a b.json", "gs://data/events/b.json")
    assert read.out == '{"a": 1}{"b": 2}'
    missing = client.gcloud("storage", "cat", "gs://data/events/none.json")
    assert "matched no objects" in missing.errors
    assert bytes(obstore.get(store, "events/b.json").bytes()) == b'{"b": 2}'
    refused = refusal(client.rest("DELETE", "storage/v1/b/data"))
    assert refused == (409, "conflict", "The bucket you tried to delete is not empty.")


@needs("gcloud")
def test_a_bucket_name_that_is_taken_is_refused(client: Client) -> None:
    client.cloud.storage.taken_buckets.add("data")

    refused = client.gcloud("storage", "buckets", "create", "gs://data")
    assert "The requested bucket name is not available" in refused.errors
    assert client.rest("GET", "storage/v1/b/data").status_code == 403
    client.create("POST", "storage/v1/b", {"name": "own"})
    own = refusal(client.rest("POST", "storage/v1/b", {"name": "own"}))
    assert own[0] == 409
    assert "you already own it" in own[2]


@needs("terraform")
def test_terraform_keeps_its_state_in_a_bucket(client: Client, tmp_path: Path) -> None:
    client.create("POST", "storage/v1/b", {"name": "state"})
    backend = 'backend "gcs" {\n    bucket = "state"\n  }'
    output = 'output "kept" {\n  value = "yes"\n}'
    (tmp_path / "main.tf").write_text(f"terraform {{\n  {backend}\n}}\n{output}\n")

    for command in ("init", "apply"):
        options = ["-auto-approve"] if command == "apply" else []
        done = client.run("terraform", f"-chdir={tmp_path}", command, "-input=false", *options)
        assert done.status == 0, done.errors

    state = json.loads(client.cloud.objects.objects["state/default.tfstate"].content)
    assert state["outputs"]["kept"]["value"] == "yes"


# Logging and Monitoring


@needs("gcloud")
def test_log_entries_are_filtered_as_the_commands_ask(client: Client) -> None:
    def entry(second: int, severity: str, **fields: Any) -> dict[str, Any]:
        return {
            "logName": "projects/warehouse-1/logs/run.googleapis.com%2Fstdout",
            "insertId": f"entry{second}",
            "timestamp": f"2026-11-01T08:00:{second:02}.000000Z",
            "severity": severity,
            "resource": {"type": "cloud_run_revision", "labels": {"service_name": "receive"}},
            "jsonPayload": fields,
        }

    client.cloud.logging.entries += [
        entry(1, "INFO", event_id="msg_1"),
        entry(2, "ERROR", event_id="msg_1", item_ids=["a", "b"]),
        entry(3, "WARNING", event_id="msg_2"),
    ]
    query = (
        'resource.type="cloud_run_revision" AND resource.labels.service_name=("receive" OR "x")'
        ' AND severity>=WARNING AND (jsonPayload.item_ids="b" OR jsonPayload.event_id="msg_2")'
    )

    read = client.gcloud(
        "logging", "read", query, "--freshness=9999d", "--limit=5", "--format=json"
    )

    assert [each["insertId"] for each in json.loads(read.out)] == ["entry3", "entry2"]


def test_a_sink_has_a_writer_who_needs_a_role_on_its_topic(client: Client) -> None:
    client.create("PUT", "pubsub/v1/@/topics/attempts")
    topic = "projects/warehouse-1/topics/attempts"
    sink = {"name": "attempts", "destination": f"pubsub.googleapis.com/{topic}"}
    sinks = "logging/v2/@/sinks"
    assert refusal(client.rest("GET", f"{sinks}/attempts")) == (
        404,
        "NOT_FOUND",
        "Sink attempts does not exist.",
    )

    writer = client.create("POST", sinks, sink, uniqueWriterIdentity="true")["writerIdentity"]

    assert writer == "serviceAccount:service-123456789012@gcp-sa-logging.iam.gserviceaccount.com"
    granted = grant(client, "pubsub/v1/@/topics/attempts", "roles/pubsub.publisher", writer)
    assert granted.status_code == 200
    changes = {"filter": "severity=ERROR"}
    client.create("PATCH", f"{sinks}/attempts", changes, updateMask="filter")
    assert client.create("GET", f"{sinks}/attempts") == sink | changes | {
        "writerIdentity": writer,
        "createTime": client.create("GET", f"{sinks}/attempts")["createTime"],
    }
    client.create("DELETE", f"{sinks}/attempts")


def alert(metric: str, **more: Any) -> dict[str, Any]:
    query = f'metric.type="logging.googleapis.com/user/{metric}"'
    condition = {"displayName": "c", "conditionThreshold": {"filter": query}}
    return {"displayName": "a", "combiner": "OR", "conditions": [condition], **more}


def test_an_alert_needs_its_metric_which_is_known_only_after_a_while(client: Client) -> None:
    policies = "monitoring/v3/@/alertPolicies"
    code, status, message = refusal(client.rest("POST", policies, alert("webhooks")))
    assert (code, status) == (404, "NOT_FOUND")
    assert message.startswith(
        'Cannot find metric(s) that match type = "logging.googleapis.com/user/'
    )

    client.cloud.monitoring.unknown_metric_answers = 1
    client.create("POST", "logging/v2/@/metrics", {"name": "errors", "filter": "severity=ERROR"})

    assert client.rest("POST", policies, alert("errors")).status_code == 404
    assert client.rest("POST", policies, alert("errors")).status_code == 200


def test_a_notification_channel_in_use_is_deleted_only_with_force(client: Client) -> None:
    channel = client.create("POST", "monitoring/v3/@/notificationChannels", {"type": "email"})
    client.create("POST", "logging/v2/@/metrics", {"name": "errors", "filter": "severity=ERROR"})
    policy = alert("errors", notificationChannels=[channel["name"]])
    policy = client.create("POST", "monitoring/v3/@/alertPolicies", policy)

    code, _, message = refusal(client.rest("DELETE", f"monitoring/v3/{channel['name']}"))
    assert code == 400
    assert f'still being referenced by: "{policy["name"]}"' in message
    forced = client.rest("DELETE", f"monitoring/v3/{channel['name']}", force="true")

    assert forced.status_code == 200


def test_time_series_are_selected_and_summed(client: Client) -> None:
    def series(outcome: str, *points: tuple[str, int]) -> dict[str, Any]:
        metric = {"type": "pubsub.googleapis.com/x", "labels": {"outcome": outcome}}
        values = [{"interval": {"endTime": t}, "value": {"int64Value": str(v)}} for t, v in points]
        return {"metric": metric, "resource": {"labels": {}}, "points": values}

    early, late = "2026-11-01T08:00:00Z", "2026-11-01T09:00:00Z"
    client.cloud.monitoring.series += [
        series("published", (early, 2), (late, 3)),
        series("refused", (late, 5)),
    ]
    query = {
        "filter": 'metric.type="pubsub.googleapis.com/x" AND metric.labels.outcome="published"',
        "interval.startTime": "2026-11-01T08:30:00Z",
        "interval.endTime": "2026-11-01T09:30:00Z",
    }

    (found,) = client.create("GET", "monitoring/v3/@/timeSeries", **query)["timeSeries"]
    assert [point["value"] for point in found["points"]] == [{"int64Value": "3"}]
    query |= {
        "interval.startTime": "2026-11-01T07:30:00Z",
        "aggregation.crossSeriesReducer": "REDUCE_SUM",
    }
    (summed,) = client.create("GET", "monitoring/v3/@/timeSeries", **query)["timeSeries"]
    assert [point["value"] for point in summed["points"]] == [{"int64Value": "5"}]


# Scheduler and Compute Engine


@needs("gcloud")
def test_a_scheduler_job_shows_its_last_attempt(client: Client) -> None:
    location = f"projects/warehouse-1/locations/{REGION}"
    job = {"name": f"{location}/jobs/hourly", "schedule": "17 * * * *"}
    client.create("POST", f"cloudscheduler/v1/{location}/jobs", job)
    client.cloud.scheduler.set_last_attempt("hourly", "2026-11-01T08:17:00Z", 14)

    described = client.gcloud(
        "scheduler", "jobs", "describe", "hourly", f"--location={REGION}", "--format=json"
    )

    shown = json.loads(described.out)
    assert (shown["lastAttemptTime"], shown["status"]) == ("2026-11-01T08:17:00Z", {"code": 14})


def test_a_service_encrypts_with_a_key_only_once_it_has_the_role(
    client: Client, cloud: GoogleCloud
) -> None:
    key = cloud.kms.create_key(f"{cloud.project.name}/locations/{REGION}/keyRings/r/cryptoKeys/k")
    cloud.project.create_agent("gcp-sa-pubsub")
    topic = {"kmsKeyName": key}

    refused = refusal(client.rest("PUT", "pubsub/v1/@/topics/t", topic))

    assert refused[:2] == (403, "PERMISSION_DENIED")
    assert key in refused[2]
    other = {"kmsKeyName": f"{key}-that-does-not-exist"}
    assert client.rest("PUT", "pubsub/v1/@/topics/t", other).status_code == 403
    role = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
    assert grant(client, f"cloudkms/v1/{key}", role, AGENT).status_code == 200
    client.create("PUT", "pubsub/v1/@/topics/t", topic)
    bucket = {"name": "scans", "encryption": {"defaultKmsKeyName": key}}
    assert client.rest("POST", "storage/v1/b", bucket).status_code == 403, "another service"


def test_a_deleted_identity_pool_keeps_its_name_until_it_is_brought_back(client: Client) -> None:
    pools = "iam/v1/@/locations/global/workloadIdentityPools"
    name = {"workloadIdentityPoolId": "github"}
    client.create("POST", pools, {"displayName": "GitHub"}, **name)

    client.create("DELETE", f"{pools}/github")

    assert client.create("GET", f"{pools}/github")["state"] == "DELETED"
    assert refusal(client.rest("POST", pools, {}, **name))[:2] == (409, "ALREADY_EXISTS")
    client.create("POST", f"{pools}/github:undelete")
    assert client.create("GET", f"{pools}/github")["state"] == "ACTIVE"


def test_a_budget_notifies_existing_channels_and_at_most_five(client: Client) -> None:
    budgets = "billingbudgets/v1/billingAccounts/000000-000000-000000/budgets"

    def notify(*channels: str) -> requests.Response:
        rule = {"monitoringNotificationChannels": list(channels)}
        return client.rest("POST", budgets, {"notificationsRule": rule})

    channels = [
        client.create("POST", "monitoring/v3/@/notificationChannels", {"type": "email"})["name"]
        for _ in range(6)
    ]

    assert notify(*channels[:5]).status_code == 200
    assert refusal(notify(*channels))[:2] == (400, "INVALID_ARGUMENT")
    assert refusal(notify("projects/warehouse-1/notificationChannels/7"))[0] == 400


def test_a_network_in_use_is_not_deleted(client: Client) -> None:
    client.create("POST", "compute/compute/v1/@/global/networks", {"name": "egress"})
    network = "https://www.googleapis.com/compute/v1/projects/warehouse-1/global/networks/egress"
    routers = f"compute/compute/v1/@/regions/{REGION}/routers"
    client.create("POST", routers, {"name": "egress", "network": network})

    refused = refusal(client.rest("DELETE", "compute/compute/v1/@/global/networks/egress"))

    assert refused[:2] == (400, "resourceInUseByAnotherResource")
    client.create("DELETE", f"{routers}/egress")
    client.create("DELETE", "compute/compute/v1/@/global/networks/egress")


def test_parts_of_a_load_balancer_in_use_are_not_deleted(client: Client) -> None:
    groups = f"@/regions/{REGION}/networkEndpointGroups"
    client.create("POST", f"compute/compute/v1/{groups}", {"name": "neg"})
    group = f"https://www.googleapis.com/compute/v1/{groups}/neg".replace(
        "@", "projects/warehouse-1"
    )
    backend = {"name": "backend", "backends": [{"group": group}]}
    client.create("POST", "compute/compute/v1/@/global/backendServices", backend)

    refused = refusal(client.rest("DELETE", f"compute/compute/v1/{groups}/neg"))

    assert refused[:2] == (400, "resourceInUseByAnotherResource")
    assert refused[2].startswith(
        "The network_endpoint_group resource 'projects/warehouse-1/regions"
    )
    client.create("DELETE", "compute/compute/v1/@/global/backendServices/backend")
    client.create("DELETE", f"compute/compute/v1/{groups}/neg")


@needs("gcloud")
def test_a_certificate_has_the_status_that_a_test_sets(client: Client) -> None:
    certificate = {"name": "cert", "type": "MANAGED", "managed": {"domains": ["a.example"]}}
    client.create("POST", "compute/compute/v1/@/global/sslCertificates", certificate)
    client.cloud.compute.set_certificate_status("cert", "FAILED_NOT_VISIBLE")

    described = client.gcloud(
        "compute", "ssl-certificates", "describe", "cert", "--global", "--format=json"
    )

    assert json.loads(described.out)["managed"]["domainStatus"] == {
        "a.example": "FAILED_NOT_VISIBLE"
    }
