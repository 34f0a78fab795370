"""The complete pipeline on loopback: Pub/Sub, Dimmy's API, the functions, a folder as storage.

With a warehouse: the items topic, too, and the tables and views that it fills. With photos: the
items topic and the function `archive`.
"""

import base64
import contextlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.layout import payload_name, receipt_name
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from sandbox.dimmy_api import DimmyApi
from sandbox.environment import RunningStack
from sandbox.functions import Function
from sandbox.google_pubsub import start_emulator
from sandbox.processes import StartError
from sandbox.pubsub import PubSub
from sandbox.pubsub_admin import PubSubAdmin, topic_path
from sandbox.pubsub_file import QUEUE_FILE, NoFile, QueueFile
from sandbox.relay import Relay
from sandbox.secret_search import assert_no_secrets_below
from sandbox.svix_sender import Attempt, Message, SvixSender, new_message
from sandbox.warehouse import WAREHOUSE_FILE, Warehouse
from sandbox.warehouse_topics import ITEM_VERSIONS_TOPIC, fill_warehouse, publish_attempt

PubSubKind = Literal["own", "google"]

EVENTS = "dimmy-events"
DEAD_LETTERS = "dimmy-dead-letters"
RESOLVE = "dimmy-resolve"
ARCHIVE = "dimmy-archive"
ARCHIVE_DEAD_LETTERS = "dimmy-archive-dead-letters"

SANDBOX_API_KEY = "sandbox-api-key"  # only valid for the sandbox's own API
_CONCURRENT_DELIVERIES = 8  # as in infra/modules/dimmy


@dataclass
class Stack:
    """The running components, and access to what they have stored."""

    background: Background
    admin: PubSubAdmin
    relay: Relay
    receive: Function
    resolve: Function
    folder: Path
    api: DimmyApi | None  # None: the real API
    sender: SvixSender
    max_delivery_attempts: int
    warehouse: Warehouse | None = None  # None: there are no tables
    archive: Function | None = None  # None: photos are not archived
    keeps_messages: bool = False

    @property
    def running(self) -> RunningStack:
        """The data that other commands need."""
        return RunningStack(
            self.admin.host,
            self.resolve.url,
            f"{self.receive.url}webhook",
            self.api.url if self.api else None,
            self.max_delivery_attempts,
            self.receive.settings["SIGNING_SECRETS"].split(),
            self.resolve.settings.get("ITEMS_TOPIC"),
            archives_photos=self.archive is not None,
            keeps_messages=self.keeps_messages,
        )

    def send(self, content: Any, message_id: str | None = None) -> Message:
        """Send a new event once, as Svix does, and wait for the response."""
        message = new_message(content, message_id)
        self.attempt(message)
        return message

    def attempt(self, message: Message) -> Attempt:
        """Send a message once more, and wait for the response."""
        return self.background.run(self.sender.attempt(message))

    def item(self, item_id: str) -> bytes | None:
        """A stored item."""
        return _read(self.folder / "items" / f"{item_id}.json")

    def receipt(self, event_id: str) -> dict[str, Any] | None:
        """The receipt of an event."""
        line = _read(self.folder / receipt_name(event_id))
        return json.loads(line) if line else None

    def payload(self, event_id: str) -> bytes | None:
        """A stored body that was too large for a Pub/Sub message."""
        return _read(self.folder / payload_name(event_id))

    def cut_pubsub(self) -> None:
        """Make Pub/Sub unreachable for the functions."""
        self.background.run(self.relay.cut())

    def restore_pubsub(self) -> None:
        self.background.run(self.relay.start())


@contextlib.contextmanager
def start_stack(
    folder: Path,
    *,
    pubsub: PubSubKind = "own",
    port: int | None = None,
    api: tuple[str, str] | None = None,
    secrets: tuple[str, ...] = (),
    settings: dict[str, str] | None = None,
    backoff_seconds: tuple[float, float] | None = None,
    max_delivery_attempts: int = 5,
    cloud_storage: CloudStorage | None = None,
    sender_speed: float = 1.0,
    attempt_reset_share: float = 0.0,
    repeat_share: float = 0.0,
    warehouse: bool = False,
    photos: bool = False,
    keeps_messages: bool = False,
    own_api: DimmyApi | None = None,
    on_log: Callable[[str, dict[str, Any]], None] = lambda _target, _line: None,
) -> Iterator[Stack]:
    """Start the pipeline; stop it when the context ends.

    No event is received before the subscriptions exist, and none is pushed before the functions
    answer.

    Args:
        folder: becomes the storage (file://).
        pubsub: the sandbox's own, or Google's emulator.
        port: of `receive`; by default a free one.
        api: URL and key of a real API; by default the sandbox's own is started.
        secrets: signing secrets; by default a new one.
        settings: of all functions, in addition to those that the stack sets.
        backoff_seconds: of the push subscription; Google's emulator loses messages with one.
        max_delivery_attempts: before a message becomes a dead letter.
        cloud_storage: becomes the storage (gs://scans) instead of the folder.
        sender_speed: how many times faster the clock of the sender's retry schedule runs.
        attempt_reset_share: of repeated pushes by the sandbox's Pub/Sub, as its class says.
        repeat_share: of its acknowledged deliveries, as its class says.
        warehouse: publish items, and fill the tables of `scans.duckdb` in the folder.
        photos: publish items, and store their photos.
        keeps_messages: the sandbox's Pub/Sub keeps what is not acknowledged in the folder.
        own_api: the sandbox's own API, which is started; by default a new one.
        on_log: gets each log line of the functions.

    Raises:
        MissingEmulatorError: Google's emulator is not installed.
        StartError: a process did not start.
        WarehouseError: the file of the warehouse cannot be used.
        QueueFileError: the file of the messages cannot be used.
    """
    secrets = secrets or (new_secret(),)
    with contextlib.ExitStack() as cleanup:
        # Registered first, so that it runs last and searches everything that was stored.
        cleanup.callback(lambda: assert_no_secrets_below(folder, [*secrets, SANDBOX_API_KEY]))
        background = cleanup.enter_context(Background())
        tables = _create_warehouse(folder) if warehouse else None
        keeps_messages &= pubsub == "own"
        file = QueueFile(folder / QUEUE_FILE) if keeps_messages else NoFile()
        cleanup.callback(file.close)
        server = PubSub(attempt_reset_share, repeat_share, tables, file)
        pubsub_host = _start_pubsub(pubsub, server, background, cleanup)
        admin = PubSubAdmin(pubsub_host)
        cleanup.callback(admin.close)
        if tables:
            has_bigquery = pubsub == "own"
            cleanup.enter_context(
                fill_warehouse(tables, admin, backoff_seconds, has_bigquery=has_bigquery)
            )
        relay = Relay(int(pubsub_host.rpartition(":")[2]))
        relay_host = f"127.0.0.1:{background.run(relay.start())}"
        cleanup.callback(lambda: background.run(relay.cut()))

        own_api = None if api else _start_api(own_api, background, cleanup)
        api_url, api_key = api or (own_api.url, own_api.key)  # type: ignore[union-attr]

        common = {
            "STORAGE_URL": f"file://{folder}",
            "LOG_LEVEL": "DEBUG",
            **(settings or {}),
        }
        if cloud_storage:
            common |= _start_storage(cloud_storage, background, cleanup)
        retries = {
            "max_delivery_attempts": max_delivery_attempts,
            "backoff_seconds": backoff_seconds,
        }
        _create_subscriptions(admin, retries, photos=photos, has_items_topic=bool(tables))

        receive = Function(
            "receive",
            common
            | {
                "SIGNING_SECRETS": " ".join(secrets),
                "EVENTS_TOPIC": topic_path(EVENTS),
                "PUBSUB_EMULATOR_HOST": relay_host,
            },
            port=port,
            on_log=lambda line: on_log("receive", line),
        )
        cleanup.callback(receive.stop)

        def on_resolve_log(line: dict[str, Any]) -> None:
            if tables:
                publish_attempt(admin, line)
            on_log("resolve", line)

        resolve = Function(
            "resolve",
            common
            | {
                "DIMMY_API_URL": api_url,
                "DIMMY_API_KEY": api_key,
                "THREADS": str(_CONCURRENT_DELIVERIES),
            }
            | (_items_topic(relay_host) if tables or photos else {}),
            on_log=on_resolve_log,
        )
        cleanup.callback(resolve.stop)
        archive = None
        if photos:
            archive = _archive(common, own_api, lambda line: on_log("archive", line))
            cleanup.callback(archive.stop)
        # All functions get SIGTERM before the first is waited for.
        functions = [function for function in (receive, resolve, archive) if function]
        for function in functions:
            cleanup.callback(function.terminate)
        _wait_until_up(functions)
        for function, subscription in zip(functions[1:], (RESOLVE, ARCHIVE), strict=False):
            admin.modify_push_config(subscription, function.url)

        sender = SvixSender(f"{receive.url}webhook", *secrets, speed=sender_speed)
        background.run(sender.__aenter__())
        cleanup.callback(lambda: background.run(sender.__aexit__()))
        yield Stack(
            background,
            admin,
            relay,
            receive,
            resolve,
            folder,
            own_api,
            sender,
            max_delivery_attempts,
            tables,
            archive,
            keeps_messages=keeps_messages,
        )


def pubsub_kind(environment: Mapping[str, str]) -> PubSubKind:
    """The Pub/Sub that the variable PUBSUB selects; the sandbox's own by default.

    Raises:
        ValueError: it has another value.
    """
    match environment.get("PUBSUB") or "own":
        case "own":
            return "own"
        case "google":
            return "google"
        case other:
            raise ValueError(f"PUBSUB={other} is neither own (the default) nor google.")


def new_secret() -> str:
    """A signing secret in Svix's format: 24 random bytes."""
    return "whsec_" + base64.b64encode(random.randbytes(24)).decode()


def _wait_until_up(functions: Sequence[Function]) -> None:
    """Wait for all functions, so that the faults of all their settings are seen at once."""
    faults = []
    for function in functions:
        try:
            function.wait_until_up()
        except StartError as error:
            faults.append(str(error))
    if faults:
        raise StartError("\n".join(faults))


def _start_pubsub(
    kind: PubSubKind, server: PubSub, background: Background, cleanup: contextlib.ExitStack
) -> str:
    if kind == "google":
        process, host = start_emulator()
        cleanup.callback(process.stop)
        return host
    port = background.run(server.start())
    cleanup.callback(lambda: background.run(server.stop()))
    return f"127.0.0.1:{port}"


def _start_storage(
    storage: CloudStorage, background: Background, cleanup: contextlib.ExitStack
) -> dict[str, str]:
    """The settings of functions that store in it."""
    background.run(storage.start())
    cleanup.callback(lambda: background.run(storage.stop()))
    return {"STORAGE_URL": "gs://scans", "STORAGE_EMULATOR_HOST": storage.url}


def _create_warehouse(folder: Path) -> Warehouse:
    tables = Warehouse(folder / WAREHOUSE_FILE)
    tables.create()
    return tables


def _items_topic(pubsub_host: str) -> dict[str, str]:
    """The settings of a function that publishes items."""
    return {
        "ITEMS_TOPIC": topic_path(ITEM_VERSIONS_TOPIC),
        "PUBSUB_EMULATOR_HOST": pubsub_host,
    }


def _start_api(
    api: DimmyApi | None, background: Background, cleanup: contextlib.ExitStack
) -> DimmyApi:
    api = api or DimmyApi(SANDBOX_API_KEY)
    background.run(api.start())
    cleanup.callback(lambda: background.run(api.stop()))
    return api


def _create_subscriptions(
    admin: PubSubAdmin, retries: dict[str, Any], *, photos: bool, has_items_topic: bool
) -> None:
    """Create what the functions need in Pub/Sub; nothing is pushed yet."""
    topics = [EVENTS]
    sources = {RESOLVE: (EVENTS, DEAD_LETTERS)}
    if photos:
        topics += [] if has_items_topic else [ITEM_VERSIONS_TOPIC]
        sources[ARCHIVE] = (ITEM_VERSIONS_TOPIC, ARCHIVE_DEAD_LETTERS)
    for topic in topics:
        admin.create_topic(topic)
    for subscription, (topic, dead_letters) in sources.items():
        admin.create_topic(dead_letters)
        admin.create_subscription(
            dead_letters, dead_letters, backoff_seconds=retries["backoff_seconds"]
        )
        admin.create_subscription(subscription, topic, dead_letter_topic=dead_letters, **retries)


def _archive(
    settings: dict[str, str], own_api: DimmyApi | None, on_log: Callable[[dict[str, Any]], None]
) -> Function:
    """The function `archive`, which gets photos from this API, or from Dimmy's own hosts."""
    settings = settings | {"THREADS": str(_CONCURRENT_DELIVERIES)}
    if own_api:
        settings["PHOTO_HOSTS"] = own_api.url
    return Function("archive", settings, on_log=on_log)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
