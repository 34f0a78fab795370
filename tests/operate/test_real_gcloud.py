"""The commands on a deployed installation with the real gcloud, on a local Google Cloud.

A program stands in for Terraform and gives its outputs.

One of them: .venv/bin/pytest tests/operate/test_real_gcloud.py -k redrive
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sandbox.background import Background
from sandbox.google_cloud.environment import google_environment
from sandbox.google_cloud.server import GoogleCloud
from sandbox.stack import new_secret
from support.google_cloud import APIS, Client
from support.operator import DEPLOYED, INVOKERS, Operator
from support.programs import needs
from support.waiting import wait_for

pytestmark = [needs("gcloud"), pytest.mark.xdist_group("gcloud")]

REGION = DEPLOYED["region"]
BUCKET = DEPLOYED["bucket"]
_SERVICES = f"run/v1/@/locations/{REGION}/services"
_ACCOUNTS = {"receive": "receiver", "resolve": "resolver", "reconcile": "reconciler"}
_SETTINGS = {
    "receive": ("SIGNING_SECRETS", "dimmy-dev-signing-secrets"),
    "resolve": ("DIMMY_API_KEY", "dimmy-dev-api-key"),
    "reconcile": ("DIMMY_API_KEY", "dimmy-dev-api-key"),
}


def receipt(event_id: str, outcome: str, **more: Any) -> dict[str, Any]:
    """The receipt of an event with one item."""
    state = "stored" if outcome == "done" else "404: Item not found"
    return {
        "event_id": event_id,
        "kind": "items.scanned",
        "received_at": "2026-11-01T08:00:00.000000Z",
        "attempts": 3,
        "outcome": outcome,
        "redriven": False,
        "items": {"67c8": state},
        **more,
    }


class Installation:
    """A deployed installation on a local Google Cloud, and somebody who operates it."""

    def __init__(self, cloud: GoogleCloud, folder: Path) -> None:
        self.cloud = cloud
        self.client = Client(cloud, folder)
        self.operator = Operator(folder, ["terraform"], google_environment(cloud.url, folder))
        self._create()

    def run(self, command: str, status: int = 0, **settings: str) -> str:
        """Run a command, check its exit status, and return what it printed."""
        stdin = settings.pop("stdin", "")
        quick = {"YES": "1", "PAUSE_SECONDS": "0.1", "PATIENCE_SECONDS": "20"}
        found = self.operator.run(command, stdin=stdin, **quick | settings)
        assert found == status, self.operator.printed
        return self.operator.printed

    def store_receipt(self, receipt: dict[str, Any]) -> None:
        name = f"{BUCKET}/events/{receipt['event_id']}.json"
        self.cloud.objects.put(name, json.dumps(receipt).encode())

    def log(self, function: str, **fields: Any) -> None:
        """Add a log line of a function, as Cloud Logging has it."""
        self.cloud.logging.entries.append(
            {
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "severity": "INFO",
                "resource": {
                    "type": "cloud_run_revision",
                    "labels": {"service_name": f"dimmy-dev-{function}"},
                },
                "jsonPayload": fields,
            }
        )

    def _create(self) -> None:
        create = self.client.create
        create("POST", "storage/v1/b", {"name": BUCKET, "location": REGION})
        state = "warehouse-1-dimmy-terraform-state"
        create("POST", "storage/v1/b", {"name": state, "location": REGION})
        dead_topic = "projects/warehouse-1/topics/dimmy-dev-dead-letters"
        for topic in (DEPLOYED["topic"], dead_topic):
            create("PUT", f"pubsub/v1/{topic}")
        push = {"pushEndpoint": DEPLOYED["functions"]["resolve"]["url"]}
        subscription = {"topic": DEPLOYED["topic"], "pushConfig": push}
        create("PUT", f"pubsub/v1/{DEPLOYED['subscription']}", subscription)
        create("PUT", f"pubsub/v1/{DEPLOYED['dead_letter_subscription']}", {"topic": dead_topic})
        for name in ("pusher", "receiver", "resolver", "reconciler", "scheduler"):
            create("POST", "iam/v1/@/serviceAccounts", {"accountId": f"dimmy-dev-{name}"})
        for secret in sorted({secret for _, secret in _SETTINGS.values()}):
            replication: dict[str, Any] = {"replication": {"automatic": {}}}
            create("POST", "secretmanager/v1/@/secrets", replication, secretId=secret)
            self.cloud.secret_manager.add_version(secret, new_secret().encode())
            members = [
                f"serviceAccount:dimmy-dev-{account}@warehouse-1.iam.gserviceaccount.com"
                for account in _ACCOUNTS.values()
            ]
            self._grant(
                f"secretmanager/v1/@/secrets/{secret}", "secretmanager.secretAccessor", members
            )
        for function, (setting, secret) in _SETTINGS.items():
            account = _ACCOUNTS[function]
            email = f"dimmy-dev-{account}@warehouse-1.iam.gserviceaccount.com"
            reference = {"key": setting, "secret": secret, "version": "1"}
            body = {
                "buildConfig": {},
                "labels": {"version": "0123"},
                "serviceConfig": {
                    "serviceAccountEmail": email,
                    "secretEnvironmentVariables": [reference | {"projectId": "warehouse-1"}],
                },
            }
            functions = f"cloudfunctions/v2/@/locations/{REGION}/functions"
            create("POST", functions, body, functionId=f"dimmy-dev-{function}")
            self._grant(f"{_SERVICES}/dimmy-dev-{function}", "run.invoker", [INVOKERS[function]])
        job = {"name": DEPLOYED["scheduler_jobs"]["hourly"], "schedule": "17 * * * *"}
        create("POST", f"cloudscheduler/v1/@/locations/{REGION}/jobs", job)

    def _grant(self, resource: str, role: str, members: list[str]) -> None:
        policy = {"bindings": [{"role": f"roles/{role}", "members": members}]}
        self.client.create("POST", f"{resource}:setIamPolicy", {"policy": policy})


@pytest.fixture
def installation(background: Background, tmp_path: Path) -> Iterator[Installation]:
    cloud = GoogleCloud()
    cloud.project.enable(*APIS)
    background.run(cloud.start())
    running = Installation(cloud, tmp_path)
    yield running
    running.operator.stop()
    background.run(cloud.stop())
    assert cloud.unknown == []


def test_status_and_doctor(installation: Installation) -> None:
    installation.cloud.scheduler.set_last_attempt(
        "dimmy-dev-reconcile-hourly", "2026-11-01T08:17:00Z"
    )
    assert "ACTIVE, version 0123" in installation.run("status")

    installation.client.rest("DELETE", f"pubsub/v1/{DEPLOYED['topic']}")
    resolve = f"{_SERVICES}/dimmy-dev-resolve"
    installation.client.create("POST", f"{resolve}:setIamPolicy", {"policy": {}})
    assert "its topic was deleted" in installation.run("status", 1)
    printed = installation.run("doctor", 1, DIMMY_API_URL="https://127.0.0.1:1")
    assert "dimmy-dev-events does not exist" in printed
    assert "gets no new event: its topic was deleted" in printed
    assert f"{INVOKERS['resolve']} may not call it" in printed
    assert "allUsers may call it" in printed


def test_a_retry_that_cloud_run_takes_for_an_error_is_none_of_status(
    installation: Installation,
) -> None:
    """Cloud Run logs each request, a 503 as an ERROR."""
    installation.log("resolve", message="")
    entry = installation.cloud.logging.entries[-1]
    del entry["jsonPayload"]
    entry |= {"severity": "ERROR", "httpRequest": {"requestMethod": "POST", "status": 503}}

    assert re.search(r"errors in the last hour +0", installation.run("status"))
    assert "POST 503" in installation.run("logs", SEVERITY="ERROR")

    installation.log("resolve", message="event unavailable", event_id="msg_1")
    installation.cloud.logging.entries[-1]["severity"] = "ERROR"
    assert re.search(r"errors in the last hour +1", installation.run("status", 1))


def test_trace_and_logs(installation: Installation) -> None:
    installation.log("receive", event_id="msg_1", outcome="published", status=204, bytes=10)
    installation.log("resolve", event_id="msg_1", outcome="partial", attempt=1, items=1, failed=1)
    installation.store_receipt(receipt("msg_1", "partial"))
    installation.cloud.pubsub.put("dimmy-dev-dead-letters", b"{}", {"svix-id": "msg_1"})
    installation.cloud.pubsub.empty_pulls = 2

    printed = installation.run("trace", 1, EVENT="msg_1")

    assert "204 published" in printed
    assert "Pub/Sub has given up and keeps it among the dead letters" in printed
    assert "partial" in installation.run("logs", EVENT="msg_1")


def test_redrive_pushes_the_dead_letters_and_holds_what_is_left(
    installation: Installation,
) -> None:
    for event_id in ("msg_1", "msg_2"):
        installation.store_receipt(receipt(event_id, "partial"))
        installation.cloud.pubsub.put("dimmy-dev-dead-letters", b"{}", {"svix-id": event_id})
    running = installation.operator.start(
        "redrive", YES="1", PAUSE_SECONDS="0.1", PATIENCE_SECONDS="60"
    )

    def pushed_to() -> str:
        subscription = installation.cloud.resource("pubsub", "subscriptions/dimmy-dev-dead-letters")
        assert subscription
        return str(subscription["pushConfig"].get("pushEndpoint", ""))

    wait_for(lambda: pushed_to() == "https://resolve.a.run.app", "the push endpoint")
    for event_id in ("msg_1", "msg_2"):
        installation.store_receipt(receipt(event_id, "done", redriven=True))

    assert running.wait(120) == 0
    assert pushed_to() == ""


def test_rotate_and_retire(installation: Installation) -> None:
    secret = "dimmy-dev-api-key"
    installation.run("secrets", stdin="DIMMY_API_KEY=another-example-api-key\n")

    printed = installation.run("rotate")

    assert f"dimmy-dev-resolve: {secret}, version 1 becomes 2" in printed
    assert "Every function reads the newest" in installation.run("rotate")
    # The functions' own configuration still names version 1.
    assert "Every enabled version" in installation.run("retire")


def test_unlock(installation: Installation) -> None:
    assert "The state is not locked." in installation.run("unlock")
    lock = {"Operation": "OperationTypeApply", "Who": "ops@office-3", "Created": "yesterday"}
    name = "warehouse-1-dimmy-terraform-state/dimmy/dev/default.tflock"
    installation.cloud.objects.put(name, json.dumps(lock).encode())
    generation = installation.cloud.objects.objects[name].generation

    assert "ops@office-3" in installation.run("unlock")

    (unlock,) = [call for call in installation.operator.calls if "force-unlock" in call]
    assert unlock[-2] == str(generation)


def test_destroy_deletes_every_object(installation: Installation) -> None:
    before = {"name": BUCKET, "force_destroy": True, "deletion_policy": "DELETE"}
    change = {"actions": ["delete"], "before": before}
    bucket = {"address": "b", "type": "google_storage_bucket", "change": change}
    plan = json.dumps({"resource_changes": [bucket]})
    installation.operator.set_answers(("terraform show", plan, 0))
    for number in range(3):
        installation.cloud.objects.put(f"{BUCKET}/items/{number}.json", b"{}")

    assert f"gs://{BUCKET}: 3 object versions deleted" in installation.run("destroy")

    assert installation.cloud.objects.count(f"{BUCKET}/") == 0
    installation.run("destroy")  # which finds an empty bucket


def test_backfill_through_cloud_scheduler(installation: Installation) -> None:
    installation.operator.set_answers(reconcile_ingress="ALLOW_INTERNAL_ONLY")
    window = {"SINCE": "2026-11-01", "UNTIL": "2026-11-02"}
    running = installation.operator.start("backfill", YES="1", PAUSE_SECONDS="0.1", **window)

    def jobs() -> list[str]:
        return [
            name for name in installation.cloud.scheduler.resources.names() if "backfill" in name
        ]

    wait_for(jobs, "the job")
    job = installation.cloud.scheduler.resources.get(jobs()[0])
    assert job["httpTarget"]["oidcToken"]["serviceAccountEmail"] in INVOKERS["reconcile"]
    assert job["httpTarget"]["uri"].startswith("https://reconcile.a.run.app/?start_date=2026-11-01")
    installation.log(
        "reconcile",
        message="reconcile done",
        outcome="done",
        seen=1,
        start_date="2026-11-01T00:00:00+00:00",
        end_date="2026-11-02T00:00:00+00:00",
    )

    assert running.wait(120) == 0
    assert jobs() == []
