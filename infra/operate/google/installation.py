"""A deployment as the commands see it."""

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from operate.console import CommandError, UsageError
from operate.google.dead_letters import GoogleDeadLetters
from operate.google.deployment import Deployment, read_deployment
from operate.google.gcloud import Gcloud
from operate.google.log_entries import read_events_of_item, read_ids_ending, read_log_lines
from operate.google.monitoring import Monitoring
from operate.google.programs import require
from operate.google.publishing import publish
from operate.google.receipts import read_receipts
from operate.google.reconcile import Caller, GoogleReconcile, HttpCaller
from operate.google.resources import (
    check_resources,
    describe_item_fault,
    describe_item_subscriptions,
    describe_wrong_topic,
)
from operate.google.scheduled_reconcile import ScheduledCaller
from operate.google.terraform import Terraform
from operate.installation import (
    EVENT_ID_FIELDS,
    ITEM_ID_FIELDS,
    Api,
    Backlog,
    Check,
    DeadLetters,
    EncodedMessage,
    Endpoint,
    Finding,
    LogLine,
    LogQuery,
    Place,
    QueuedEvent,
    Reconcile,
    Secret,
    open_dimmy,
)
from operate.times import shown_text
from pipeline.dimmy.client import DimmyClient
from pipeline.dimmy.settings import DEFAULT_API_URL, parse_api_key
from pipeline.receive.settings import parse_signing_secrets
from pipeline.store.receipts import Receipt
from pipeline.store.settings import StorageSettings

if TYPE_CHECKING:
    from obstore.store import GCSCredential

_DELIVERY_SECONDS = 120.0
_MAX_LINES_OF_ITEM = 1000
_CREDENTIAL_LASTS = timedelta(minutes=10)  # then gcloud is asked for another one
_API_CONCURRENCY = 8
_API_SECONDS = 30.0


def open_installation(settings: Mapping[str, str]) -> "GoogleInstallation":
    """The deployment that ENV and PROJECT name.

    Raises:
        UsageError: they name none, or a program is missing.
    """
    return GoogleInstallation(read_deployment(settings), settings)


class GoogleInstallation:
    """Implements `installation.Installation`."""

    asks_before_changes = True
    storage_poll_seconds = 10.0
    status_poll_seconds = 60.0

    def __init__(self, deployment: Deployment, settings: Mapping[str, str]) -> None:
        require("gcloud", "terraform")
        self.title = f"{deployment.environment} in {deployment.project}"
        self.instructions = deployment.instructions
        self._deployment = deployment
        self._settings = settings
        self._gcloud = Gcloud(deployment)
        self._monitoring = Monitoring(self._gcloud)
        self._secret_values: dict[str, str] = {}

    # History

    def log_lines(self, query: LogQuery) -> list[LogLine]:
        return read_log_lines(self._gcloud, query)

    def events_of_item(self, item_id: str, last: str) -> list[str]:
        return read_events_of_item(self._gcloud, item_id, last, _MAX_LINES_OF_ITEM)

    def event_ids_ending(self, ending: str, last: str) -> set[str]:
        return read_ids_ending(self._gcloud, EVENT_ID_FIELDS, ending, last, _MAX_LINES_OF_ITEM)

    def item_ids_ending(self, ending: str, last: str) -> set[str]:
        return read_ids_ending(self._gcloud, ITEM_ID_FIELDS, ending, last, _MAX_LINES_OF_ITEM)

    def receipts(self, event_ids: Iterable[str]) -> dict[str, Receipt]:
        return read_receipts(self._gcloud, self._outputs["bucket"], event_ids)

    def place_of(self, event_id: str) -> Place:
        is_dead_letter = event_id in self.dead_letters().event_ids()
        return Place.DEAD_LETTERS if is_dead_letter else Place.PROBABLY_PUBSUB

    def queued_events(self) -> Mapping[str, QueuedEvent] | None:
        return None

    def dead_letters(self) -> DeadLetters:
        return GoogleDeadLetters(self._gcloud, self._outputs, self._settings)

    # Status

    def components(self) -> Iterator[Finding]:
        outputs = self._outputs
        yield Finding("environment", f"{self.title}, {outputs['region']}")
        yield Finding("webhook URL", outputs["webhook_url"])
        for function in outputs["functions"].values():
            name, region = function["name"], f"--region={outputs['region']}"
            described = self._gcloud.find_json("functions", "describe", name, "--gen2", region)
            if described is None:
                yield Finding(name, "does not exist", self._restore)
                continue
            state = described.get("state", "unknown")
            version = described.get("labels", {}).get("version", "unknown")
            deploy = f"{self.instructions.command('deploy')}, and read what it says"
            remedy = "" if state == "ACTIVE" else deploy
            yield Finding(name, f"{state}, version {version}", remedy)
        yield from self._subscriptions()

    def _subscriptions(self) -> Iterator[Finding]:
        outputs, doctor = self._outputs, self.instructions.command("doctor")
        subscription = outputs["subscription"]
        described = self._gcloud.find_json("pubsub", "subscriptions", "describe", subscription)
        if described is None:
            yield Finding("subscription", "does not exist", doctor)
        elif wrong_topic := describe_wrong_topic(described, outputs):
            yield Finding(
                "subscription",
                f"gets no new event: {wrong_topic}",
                f"{self.instructions.command('plan')} says how to replace it.",
            )
        for name, optional in describe_item_subscriptions(self._gcloud, outputs):
            if fault := describe_item_fault(optional):
                yield Finding(name, fault, doctor)
            elif optional and "bigqueryConfig" in optional:
                yield Finding(name, "ACTIVE")
        yield from self._item_dead_letters()

    def _item_dead_letters(self) -> Iterator[Finding]:
        """Those of BigQuery and the item subscribers. Those of `archive` are in `photo_backlog`."""
        for name, subscription in self._outputs.get("item_dead_letter_subscriptions", {}).items():
            if name == "archive":
                continue
            if count := self._monitoring.of_subscription("num_undelivered_messages", subscription):
                remedy = "infra/README.md, Items for other systems"
                yield Finding(f"dead letters of {name}", f"{count:.0f}", remedy)

    def backlog(self) -> Backlog:
        outputs = self._outputs
        return self._backlog(outputs["subscription"], outputs["dead_letter_subscription"])

    def archives_photos(self) -> bool:
        return bool(self._outputs.get("archive_subscription"))

    def photo_backlog(self) -> Backlog:
        outputs = self._outputs
        dead_letters = outputs["item_dead_letter_subscriptions"]["archive"]
        return self._backlog(outputs["archive_subscription"], dead_letters)

    def _backlog(self, subscription: str, dead_letters: str) -> Backlog:
        read = self._monitoring.of_subscription
        waiting = read("num_undelivered_messages", subscription)
        oldest = read("oldest_unacked_message_age", subscription)
        dead = read("num_undelivered_messages", dead_letters)
        # An idle subscription has no value.
        return Backlog(round(waiting or 0), oldest, dead_letters=round(dead or 0))

    def events_received(self) -> tuple[int, int]:
        count = self._monitoring.count
        return count("webhooks", "published", 1), count("webhooks", "published", 24)

    def schedules(self) -> Iterator[Finding]:
        for name, job in self._outputs.get("scheduler_jobs", {}).items():
            _, _, _, region, _, job_id = job.split("/")
            describe = ("scheduler", "jobs", "describe", job_id, f"--location={region}")
            described = self._gcloud.find_json(*describe)
            if described is None:
                yield Finding(f"{name} reconcile", "its job does not exist", self._restore)
                continue
            if (state := described.get("state", "ENABLED")) != "ENABLED":
                resume = f"gcloud scheduler jobs resume {job_id} --location={region}"
                project = f"--project={self._deployment.project}"
                yield Finding(f"{name} reconcile", f"its job is {state}", f"{resume} {project}")
                continue
            if "lastAttemptTime" not in described:
                yield Finding(f"{name} reconcile", "none yet")
                continue
            failed = bool((described.get("status") or {}).get("code"))
            yield Finding(
                f"{name} reconcile",
                f"{shown_text(described['lastAttemptTime'])}, {'failed' if failed else 'done'}",
                self.instructions.command("logs", SEVERITY="ERROR") if failed else "",
            )

    # Diagnosis

    def check_access(self) -> Iterator[Check]:
        project = self._deployment.project
        try:
            self._gcloud.run("projects", "describe", project)
        except CommandError as error:
            yield Check("the project", str(error), "gcloud auth login, or ask for access to it.")
            return
        yield Check("the project", f"{project} can be reached")
        bucket = f"gs://{self._deployment.state_bucket}"
        if not self._gcloud.exists("storage", "buckets", "describe", bucket):
            bootstrap = self.instructions.command("bootstrap")
            yield Check("Terraform's state", f"{bucket} does not exist", bootstrap)

    def secrets(self) -> list[Secret]:
        return [self._secret("signing_secrets", "SIGNING_SECRETS")]

    def api(self) -> Api:
        of_deployment = self._deployment.variables.get("dimmy_api_url") or DEFAULT_API_URL
        url = self._settings.get("DIMMY_API_URL") or str(of_deployment)
        return Api(url, self._secret("api_key", "DIMMY_API_KEY"))

    def check_resources(self) -> Iterator[Check]:
        try:
            outputs = self._outputs
        except UsageError as error:
            yield Check("what is deployed", "nothing yet", str(error))
            return
        yield from check_resources(self._gcloud, outputs, self._settings)

    def endpoint(self) -> Endpoint | None:
        try:
            url = self._outputs["webhook_url"]
            signing_secrets = parse_signing_secrets(self._secret_value("signing_secrets"))
        except (UsageError, ValueError):
            return None
        patience = float(self._settings.get("PATIENCE_SECONDS") or _DELIVERY_SECONDS)
        return Endpoint(url, signing_secrets, patience)

    # Operations

    def reconcile(self) -> AbstractContextManager[Reconcile]:
        if self._outputs["reconcile_ingress"] == "ALLOW_ALL":
            caller: Caller = HttpCaller(
                self._gcloud, self._outputs["functions"]["reconcile"]["url"]
            )
        else:
            caller = ScheduledCaller(self._gcloud, self._outputs, self._settings)
        return nullcontext(GoogleReconcile(caller))

    def storage(self) -> StorageSettings:
        bucket = f"gs://{self._outputs['bucket']}"
        emulator_url = os.environ.get("STORAGE_EMULATOR_HOST")
        return StorageSettings(bucket, emulator_url, None if emulator_url else self._credential)

    def dimmy(self) -> DimmyClient:
        api = self.api()
        try:
            key = parse_api_key(api.key.value)
        except ValueError as error:
            raise UsageError(f"{api.key.name} {error}: {api.key.remedy}") from error
        return open_dimmy(api.url, key, _API_CONCURRENCY, _API_SECONDS)

    def publish(self, attributes: Mapping[str, str], data: bytes) -> None:
        publish(self._gcloud, self._outputs["topic"], [(attributes, data)])

    def publish_dead_letter(self, _attributes: Mapping[str, str], _data: bytes) -> None:
        raise UsageError("Only `make run` takes a dead letter: leave out ENV and PROJECT.")

    def items_topic(self) -> str:
        topic = self._outputs.get("items_topic")
        if not topic:
            raise UsageError(
                "This installation has no items topic: set items_topic = true in"
                f" {self.instructions.settings_file}, and"
                f" {self.instructions.command('deploy')}."
            )
        return str(topic)

    def publish_items(self, messages: Sequence[EncodedMessage]) -> None:
        publish(self._gcloud, self.items_topic(), messages)

    def operator(self) -> str:
        return self._gcloud.run("config", "get-value", "account").strip() or "unknown"

    def _credential(self) -> "GCSCredential":
        expires_at = datetime.now(UTC) + _CREDENTIAL_LASTS
        return {"token": self._gcloud.access_token(), "expires_at": expires_at}

    @functools.cached_property
    def _outputs_or_error(self) -> dict[str, Any] | UsageError:
        try:
            return Terraform(self._gcloud).outputs()
        except UsageError as error:
            return error

    @property
    def _outputs(self) -> dict[str, Any]:
        if isinstance(self._outputs_or_error, UsageError):
            raise self._outputs_or_error
        return self._outputs_or_error

    @property
    def _restore(self) -> str:
        """The remedy for what was deleted."""
        return f"{self.instructions.command('deploy')} restores it."

    def _secret(self, name: str, setting: str) -> Secret:
        parse = parse_api_key if name == "api_key" else parse_signing_secrets
        secret_id = self._deployment.secrets[name]
        remedy = self.instructions.change_secret(setting)
        return Secret(secret_id, self._secret_value(name), parse, remedy)

    def _secret_value(self, name: str) -> str:
        if name not in self._secret_values:
            self._secret_values[name] = self._gcloud.read_secret(name)
        return self._secret_values[name]
