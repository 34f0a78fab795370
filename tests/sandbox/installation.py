"""The installation of a local `make run`: its folder and, while it is running, its Pub/Sub."""

import contextlib
import getpass
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from google.api_core.exceptions import ServiceUnavailable

from operate.commands.arguments import as_timedelta
from operate.console import CommandError, UsageError
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
    Instructions,
    LogLine,
    LogQuery,
    Place,
    QueuedEvent,
    Reconcile,
    ReconcileAnswer,
    Secret,
    ids_in,
    open_dimmy,
    request_parameters,
)
from operate.ports import is_free
from pipeline.dimmy.client import DimmyClient
from pipeline.dimmy.settings import parse_api_key
from pipeline.layout import ITEMS, PHOTOS, RECEIPTS, receipt_name
from pipeline.message import event_id_of
from pipeline.receive.settings import parse_signing_secrets
from pipeline.reconcile.counts import COUNTS
from pipeline.store.receipts import Receipt, ReceiptError
from pipeline.store.settings import StorageSettings
from sandbox.environment import (
    DEFAULT_PORT,
    ROOT,
    ApiAccess,
    RunningStack,
    data_folder,
    real_api,
    running_stack,
)
from sandbox.functions import Function
from sandbox.log_file import LogFile, LogTail
from sandbox.processes import StartError
from sandbox.pubsub_admin import PubSubAdmin, PulledMessage, subscription_path
from sandbox.pubsub_file import QUEUE_FILE, QueueFileError, Waiting, read_waiting
from sandbox.pubsub_queue import dead_letter_source
from sandbox.stack import (
    ARCHIVE,
    ARCHIVE_DEAD_LETTERS,
    DEAD_LETTERS,
    EVENTS,
    RESOLVE,
    SANDBOX_API_KEY,
)

_SEVERITIES = ["DEBUG", "INFO", "WARNING", "ERROR"]
_DELIVERY_SECONDS = 15.0
_RECONCILE_SECONDS = 1800
_CONCURRENCY = 8
_API_SECONDS = 10.0


class SandboxInstallation:
    """Implements `operate.installation.Installation`."""

    asks_before_changes = False
    storage_poll_seconds = 0.1  # listing a folder is cheap
    status_poll_seconds = 0.5
    instructions = Instructions()

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self._folder = data_folder(settings)
        self._status_lines = LogTail(self._folder, _is_for_status)
        self.title = str(
            self._folder.relative_to(ROOT) if self._folder.is_relative_to(ROOT) else self._folder
        )

    # History

    def log_lines(self, query: LogQuery) -> list[LogLine]:
        # `make view` polls these few lines twice a second.
        is_for_status = query.message or query.severity in _STATUS_SEVERITIES
        lines = self._status_lines if is_for_status else LogFile(self._folder)
        since = datetime.now(UTC) - as_timedelta(query.last)
        found = [line for line in lines.lines() if line.time > since and _matches(line, query)]
        return found[-query.limit :]

    def events_of_item(self, item_id: str, last: str) -> list[str]:
        since = datetime.now(UTC) - as_timedelta(last)
        logged = [
            str(line.fields["event_id"])
            for line in LogFile(self._folder).lines()
            if line.time > since
            and "event_id" in line.fields
            and item_id in ids_in(line.fields, ITEM_ID_FIELDS)
        ]
        paths = (self._folder / RECEIPTS).glob("*.json")
        by_age = sorted(paths, key=lambda path: path.stat().st_mtime)
        receipts = self.receipts(path.stem for path in by_age)
        recorded = [event_id for event_id, receipt in receipts.items() if item_id in receipt.items]
        return list(dict.fromkeys([*recorded, *logged]))

    def event_ids_ending(self, ending: str, last: str) -> set[str]:
        kept = self._names(RECEIPTS) | {*self._queue(None)}
        return self._ending(kept, EVENT_ID_FIELDS, ending, last)

    def item_ids_ending(self, ending: str, last: str) -> set[str]:
        return self._ending(self._names(ITEMS), ITEM_ID_FIELDS, ending, last)

    def _ending(
        self, kept: Iterable[str], fields: Sequence[str], ending: str, last: str
    ) -> set[str]:
        since = datetime.now(UTC) - as_timedelta(last)
        lines = (line for line in LogFile(self._folder).lines() if line.time > since)
        logged = (each for line in lines for each in ids_in(line.fields, fields))
        return {each for each in (*kept, *logged) if each.endswith(ending)}

    def _names(self, part: str) -> set[str]:
        """The names of the objects in a part of the storage."""
        return {path.stem for path in (self._folder / part).glob("*.json")}

    def receipts(self, event_ids: Iterable[str]) -> dict[str, Receipt]:
        found = {}
        for event_id in event_ids:
            path = self._folder / receipt_name(event_id)
            with contextlib.suppress(FileNotFoundError):
                try:
                    found[event_id] = Receipt.read(path.read_bytes())
                except ReceiptError as error:
                    raise CommandError(f"{path}: {error}") from error
        return found

    def place_of(self, event_id: str) -> Place:
        stack = running_stack(self._folder)
        if queued := self._queue(stack).get(event_id):
            return queued.place
        if stack and not stack.keeps_messages:
            return self._place_in_memory(event_id, stack)
        return Place.NOWHERE

    def queued_events(self) -> Mapping[str, QueuedEvent] | None:
        stack = running_stack(self._folder)
        return None if stack and not stack.keeps_messages else self._queue(stack)

    def _queue(self, stack: RunningStack | None) -> dict[str, QueuedEvent]:
        """What is on disk, for the Pub/Sub of this stack or of the next one."""
        places = {RESOLVE: Place.DISK, DEAD_LETTERS: Place.DEAD_LETTERS_ON_DISK}
        if stack and stack.keeps_messages:
            places = {RESOLVE: Place.PUBSUB, DEAD_LETTERS: Place.DEAD_LETTERS}
        return {
            _event_id(message): QueuedEvent(places[subscription], message.published_at)
            for subscription, messages in self._read_waiting(RESOLVE, DEAD_LETTERS).items()
            for message in messages
        }

    def _place_in_memory(self, event_id: str, stack: RunningStack) -> Place:
        """Where an event is, if Pub/Sub has lost at its start what it keeps in memory."""
        if event_id in self.dead_letters().event_ids():
            return Place.DEAD_LETTERS
        started = datetime.fromtimestamp(stack.started_at, UTC)
        is_known = any(
            line.time > started and line.fields.get("event_id") == event_id
            for line in LogFile(self._folder).lines()
        )
        return Place.PROBABLY_PUBSUB if is_known else Place.NOWHERE

    def _read_waiting(self, *subscriptions: str) -> dict[str, list[Waiting]]:
        """What waits on disk in these subscriptions, at one moment."""
        names = [subscription_path(each) for each in subscriptions]
        try:
            found = read_waiting(self._folder / QUEUE_FILE, names)
        except QueueFileError as error:
            raise CommandError(str(error)) from error
        return {each: found[name] for each, name in zip(subscriptions, names, strict=True)}

    def dead_letters(self) -> DeadLetters:
        stack = self._stack()
        return SandboxDeadLetters(stack.pubsub_host, stack.resolve_url)

    # Status

    def components(self) -> Iterator[Finding]:
        stack = running_stack(self._folder)
        if stack:
            yield Finding("make run", stack.webhook_url)
        else:
            yield Finding("make run", "is not running", "make run")

    def backlog(self) -> Backlog:
        return self._backlog(RESOLVE, DEAD_LETTERS)

    def _backlog(self, subscription: str, dead_letters: str) -> Backlog:
        stack = running_stack(self._folder)
        if stack and not stack.keeps_messages:
            return Backlog(None)
        waiting, dead = self._read_waiting(subscription, dead_letters).values()
        is_paused = stack is None
        if not waiting:
            return Backlog(0, dead_letters=len(dead), is_paused=is_paused)
        oldest = waiting[0]
        age = (datetime.now(UTC) - oldest.published_at).total_seconds()
        return Backlog(len(waiting), age, _event_id(oldest), len(dead), is_paused)

    def archives_photos(self) -> bool:
        stack = running_stack(self._folder)
        return stack.archives_photos if stack else (self._folder / PHOTOS).exists()

    def photo_backlog(self) -> Backlog:
        return self._backlog(ARCHIVE, ARCHIVE_DEAD_LETTERS)

    def events_received(self) -> tuple[int, int]:
        now = datetime.now(UTC)
        times = [
            line.time
            for line in self._status_lines.lines()
            if line.fields.get("message") == "webhook published"
        ]
        hour, day = (
            sum(time > now - timedelta(hours=hours) for time in times) for hours in (1, 24)
        )
        return hour, day

    def schedules(self) -> Iterator[Finding]:
        yield from ()

    # Diagnosis

    def check_access(self) -> Iterator[Check]:
        for part in ("items", "events", "payloads"):
            probe = self._folder / part / f".doctor-{os.getpid()}"
            try:
                probe.parent.mkdir(parents=True, exist_ok=True)
                probe.write_bytes(b"")
                probe.unlink()
            except OSError as error:
                yield Check(
                    "storage",
                    f"{probe.parent}: {error.strerror or type(error).__name__}",
                    "Make the folder writable, or set DATA to another one.",
                )
                return
        yield Check("storage", f"{self._folder} can be written to")

    def secrets(self) -> list[Secret]:
        value = self._settings.get("SIGNING_SECRETS", "")
        if not (value or real_api(self._settings)):
            return []  # `make run` generates its own
        remedy = (
            "Copy the signing secret of your endpoint (whsec_...) from the webhook dashboard into"
            " .env."
        )
        return [Secret("SIGNING_SECRETS", value, parse_signing_secrets, remedy)]

    def api(self) -> Api | None:
        access = real_api(self._settings)
        if access is None:
            return None
        remedy = self.instructions.change_secret("DIMMY_API_KEY")
        return Api(access.url, Secret("DIMMY_API_KEY", access.key, parse_api_key, remedy))

    def check_resources(self) -> Iterator[Check]:
        if real_api(self._settings) is None:
            yield Check("Dimmy's API", "the sandbox's own, because DIMMY_API_KEY is not set")
        if running_stack(self._folder):
            return
        port = self._settings.get("PORT") or DEFAULT_PORT
        if port.isdecimal() and not is_free(int(port)):
            yield Check("make run", f"is not running, and port {port} is busy", "make run PORT=...")
        else:
            yield Check("make run", "is not running; it could be started")

    def endpoint(self) -> Endpoint | None:
        stack = running_stack(self._folder)
        if stack is None:
            return None
        return Endpoint(stack.webhook_url, tuple(stack.signing_secrets), _DELIVERY_SECONDS)

    # Operations

    def reconcile(self) -> AbstractContextManager[Reconcile]:
        return _running_reconcile(self._folder, self._api_access(), running_stack(self._folder))

    def storage(self) -> StorageSettings:
        if not self._folder.is_dir():
            raise UsageError(f"There is no folder {self._folder}: `make run` creates it.")
        return StorageSettings(f"file://{self._folder}")

    def dimmy(self) -> DimmyClient:
        access = self._api_access()
        return open_dimmy(access.url, access.key, _CONCURRENCY, _API_SECONDS)

    def publish(self, attributes: Mapping[str, str], data: bytes) -> None:
        with closing(PubSubAdmin(self._stack().pubsub_host)) as admin:
            admin.publish(EVENTS, data, **attributes)

    def publish_dead_letter(self, attributes: Mapping[str, str], data: bytes) -> None:
        stack = self._stack()
        source = dead_letter_source(
            subscription_path(RESOLVE), stack.max_delivery_attempts, datetime.now(UTC)
        )
        with closing(PubSubAdmin(stack.pubsub_host)) as admin:
            admin.publish(DEAD_LETTERS, data, **attributes, **source)

    def items_topic(self) -> str:
        topic = self._stack().items_topic
        if not topic:
            raise UsageError("This `make run` has no items topic.")
        return topic

    def publish_items(self, messages: Sequence[EncodedMessage]) -> None:
        topic = self.items_topic().rpartition("/")[2]
        with closing(PubSubAdmin(self._stack().pubsub_host)) as admin:
            for attributes, data in messages:
                admin.publish(topic, data, **attributes)

    def operator(self) -> str:
        return getpass.getuser()

    def _stack(self) -> RunningStack:
        stack = running_stack(self._folder)
        if stack is None:
            raise UsageError("`make run` is not running: start it in another terminal first.")
        return stack

    def _api_access(self) -> ApiAccess:
        """The real API, or that of a running `make run`."""
        if access := real_api(self._settings):
            return access
        stack = running_stack(self._folder)
        if stack and stack.sandbox_api:
            return ApiAccess(stack.sandbox_api, SANDBOX_API_KEY)
        raise UsageError(
            "No Dimmy API is configured: set DIMMY_API_KEY in .env for the real one, or start"
            " `make run` in another terminal for the sandbox's."
        )


class SandboxDeadLetters:
    """Implements `operate.installation.DeadLetters` for the sandbox's Pub/Sub."""

    pause_seconds = 0.1
    patience_seconds = 15.0

    def __init__(self, pubsub_host: str, resolve_url: str) -> None:
        self._pubsub_host = pubsub_host
        self._resolve_url = resolve_url

    def event_ids(self) -> set[str]:
        messages: list[PulledMessage] = []
        with self._admin() as admin:
            while batch := admin.pull(DEAD_LETTERS, count=1000, timeout=3):
                messages += batch
            if messages:
                admin.nack(DEAD_LETTERS, messages)
        return {event_id_of(each.attributes, each.message_id) for each in messages}

    def push(self) -> None:
        with self._admin() as admin:
            admin.modify_push_config(DEAD_LETTERS, self._resolve_url)

    def hold(self) -> None:
        with self._admin() as admin:
            admin.modify_push_config(DEAD_LETTERS, "")

    def count(self) -> int | None:
        return None  # Pub/Sub's API has no count

    @contextmanager
    def _admin(self) -> Iterator[PubSubAdmin]:
        with closing(PubSubAdmin(self._pubsub_host)) as admin:
            try:
                yield admin
            except ServiceUnavailable:
                raise UsageError(
                    "The `make run` of this folder was killed: start it again first."
                ) from None


class SandboxReconcile:
    """Implements `operate.installation.Reconcile` with a `reconcile` on this machine."""

    description = "a reconcile on this machine"
    longest: timedelta | None = None

    def __init__(self, function: Function) -> None:
        self._function = function
        self._progress: Callable[[datetime, int], None] = lambda _reached, _seen: None

    def window(
        self,
        start: datetime,
        end: datetime,
        progress: Callable[[datetime, int], None],
        *,
        fresh: bool = False,
    ) -> ReconcileAnswer:
        self._progress = progress
        response = requests.post(
            self._function.url,
            params=request_parameters(start, end, fresh=fresh),
            timeout=_RECONCILE_SECONDS,
        )
        answer = response.json()
        counts = {name: int(answer.get(name, 0)) for name in COUNTS}
        is_done = response.status_code == 200
        reason = "" if is_done else f"{response.status_code} {answer.get('message', '')}"
        return ReconcileAnswer(counts, reason, str(answer.get("warning", "")))

    def show_progress(self, fields: Mapping[str, Any]) -> None:
        """Report the progress in a log line of the function."""
        if fields.get("reached"):
            self._progress(datetime.fromisoformat(fields["reached"]), fields["seen"])


@contextmanager
def _running_reconcile(
    folder: Path, api: ApiAccess, stack: RunningStack | None
) -> Iterator[Reconcile]:
    folder.mkdir(parents=True, exist_ok=True)
    log_file = LogFile(folder)
    reconcile: SandboxReconcile | None = None

    def on_log(fields: dict[str, Any]) -> None:
        log_file.add("reconcile", fields)
        if reconcile:
            reconcile.show_progress(fields)

    settings = {
        "STORAGE_URL": f"file://{folder}",
        "DIMMY_API_URL": api.url,
        "DIMMY_API_KEY": api.key,
        "ATTEMPT_SECONDS": str(_RECONCILE_SECONDS - 10),
    }
    if stack and stack.items_topic:
        settings |= {"ITEMS_TOPIC": stack.items_topic, "PUBSUB_EMULATOR_HOST": stack.pubsub_host}
    function = Function("reconcile", settings, on_log=on_log)
    try:
        function.wait_until_up()
        reconcile = SandboxReconcile(function)
        yield reconcile
    except StartError as error:
        raise UsageError(str(error)) from error
    finally:
        function.stop()


def _event_id(message: Waiting) -> str:
    return event_id_of(message.attributes, str(message.number))


def _matches(line: LogLine, query: LogQuery) -> bool:
    fields = line.fields
    if query.event_id and fields.get("event_id") != query.event_id:
        return False
    if query.item_id and fields.get("item_id") != query.item_id:
        return False
    if query.message and fields.get("message") != query.message:
        return False
    if query.function and line.function != query.function:
        return False
    severity = str(fields.get("severity", "INFO"))
    return not query.severity or _SEVERITIES.index(severity) >= _SEVERITIES.index(query.severity)


_STATUS_MESSAGES = {
    "webhook published",
    "event partial",
    "photos refused",
    "reconcile done",
}
_STATUS_SEVERITIES = {"WARNING", "ERROR"}


def _is_for_status(line: LogLine) -> bool:
    """Whether `make status` needs the line."""
    return (
        line.fields.get("message") in _STATUS_MESSAGES
        or line.fields.get("severity") in _STATUS_SEVERITIES
    )
