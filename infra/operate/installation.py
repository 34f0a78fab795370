"""An installation as the commands see it, in Google Cloud or on this machine.

An implementation only provides the data: log lines, receipts, dead letters. The conclusions are the
same for every installation and are drawn by the commands.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from obstore.exceptions import BaseError

from operate.console import UsageError, first_line
from pipeline.dimmy.client import DimmyClient
from pipeline.dimmy.settings import DimmySettings, parse_api_url
from pipeline.environment import Environment, SettingsError
from pipeline.http_client.network import read_network
from pipeline.store.objects import open_storage
from pipeline.store.receipts import Receipt
from pipeline.store.settings import StorageSettings

if TYPE_CHECKING:
    from obstore.store import GCSStore, LocalStore

# For an object of 32 MiB over an office's connection.
OBJECT_SECONDS = 60.0

# The fields of a log line with ids of events and of items.
EVENT_ID_FIELDS = ("event_id",)
ITEM_ID_FIELDS = ("item_id", "item_ids")

EncodedMessage = tuple[Mapping[str, str], bytes]  # its attributes and its data


@dataclass(frozen=True)
class Instructions:
    """How a person types commands for an installation, and changes its settings and secrets.

    `arguments` follow every command, such as `ENV=dev PROJECT=warehouse-1`. `settings_file` names
    the file with the settings. `has_secret_manager`: it keeps the secrets, instead of that file.
    """

    arguments: str = ""
    settings_file: str = ".env"
    has_secret_manager: bool = False

    def command(self, name: str, **variables: str) -> str:
        """A command as it is typed."""
        given = [f"{variable}={value}" for variable, value in variables.items()]
        return " ".join(filter(None, ["make", name, *given, self.arguments]))

    def change_secret(self, setting: str) -> str:
        """How the functions get another value of a secret."""
        if not self.has_secret_manager:
            return self.change_setting(setting)
        return f"{self.command('secrets')}, then {self.command('rotate')}"

    def change_setting(self, setting: str) -> str:
        """How the functions get another value of a setting that is no secret."""
        if not self.has_secret_manager:
            return f"set {setting} in {self.settings_file} and start `make run` again"
        return f"set {setting.lower()} in {self.settings_file}, then {self.command('deploy')}"


@dataclass(frozen=True)
class LogLine:
    """One log line of a function (receive, resolve, reconcile or archive)."""

    time: datetime
    function: str
    fields: Mapping[str, Any]


def ids_in(fields: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    """The ids in these fields of a log line, each of which has one id or a list of them."""
    for name in names:
        value = fields.get(name, ())
        yield from value if isinstance(value, list) else [str(value)] if value else []


@dataclass(frozen=True)
class LogQuery:
    """Which log lines to read: the newest `limit` of the last `last` (such as 30m, 1h or 2d)."""

    last: str
    limit: int
    event_id: str = ""
    item_id: str = ""
    message: str = ""
    severity: str = ""  # the lowest one
    function: str = ""
    has_requests: bool = True  # also the platform's own lines, one for each HTTP request


@dataclass(frozen=True)
class Backlog:
    """What Pub/Sub still has to deliver. None where a number is unknown.

    `is_paused`: nothing is delivered until the installation is started.
    """

    waiting: int | None
    oldest_seconds: float | None = None
    oldest_event_id: str = ""
    dead_letters: int | None = None
    is_paused: bool = False


class Place(Enum):
    """Where the message of an unfinished event is."""

    PUBSUB = "in Pub/Sub"
    PROBABLY_PUBSUB = "not among the dead letters"
    PUBSUB_OR_DEAD_LETTERS = "in Pub/Sub or among the dead letters"
    DEAD_LETTERS = "among the dead letters"
    DISK = "on disk, until the installation is started"
    DEAD_LETTERS_ON_DISK = "among the dead letters, on disk"
    NOWHERE = "nowhere"

    @property
    def is_certain(self) -> bool:
        """Whether the message is known to exist."""
        return self in {
            Place.PUBSUB,
            Place.DEAD_LETTERS,
            Place.DISK,
            Place.DEAD_LETTERS_ON_DISK,
        }


@dataclass(frozen=True)
class QueuedEvent:
    """An event whose message waits, or is a dead letter."""

    place: Place
    published_at: datetime


@dataclass(frozen=True)
class Finding:
    """One line of a status. `remedy` is the command that helps, empty where all is well.

    `events` is the state of the events that the line is about, or "all".
    """

    name: str
    value: str
    remedy: str = ""
    events: str = ""


@dataclass(frozen=True)
class Check:
    """One line of a diagnosis. `remedy` says how to solve the problem, empty if there is none."""

    name: str
    result: str
    remedy: str = ""


@dataclass(frozen=True)
class Secret:
    """A secret of the functions, with the checks of its format. `value` may be empty."""

    name: str
    value: str = field(repr=False)
    parse: Callable[[str], object]
    remedy: str


@dataclass(frozen=True)
class Api:
    """Dimmy's API as the functions use it."""

    url: str
    key: Secret


@dataclass(frozen=True)
class Endpoint:
    """The HTTP webhook endpoint, and how long an event may take from there into storage."""

    url: str
    signing_secrets: tuple[str, ...] = field(repr=False)
    patience_seconds: float


class DeadLetters(Protocol):
    """The subscription to the dead letters."""

    pause_seconds: float  # between two checks of the receipts during a re-drive
    patience_seconds: float  # without progress, before a re-drive ends

    def event_ids(self) -> set[str]:
        """The events whose messages can be pulled now. The messages stay in the subscription."""

    def push(self) -> None:
        """Let Pub/Sub push the messages to `resolve` from now on."""

    def hold(self) -> None:
        """Keep the messages in the subscription from now on."""

    def count(self) -> int | None:
        """How many there are, including those that cannot be pulled now; None if unknown."""


@dataclass(frozen=True)
class ReconcileAnswer:
    """The counts of a window; `reason` says why it is not finished, empty if it is.

    `warning` is one of a finished window.
    """

    counts: Mapping[str, int]
    reason: str = ""
    warning: str = ""


def request_parameters(start: datetime, end: datetime, *, fresh: bool) -> dict[str, str]:
    """The query of a request to `reconcile`."""
    parameters = {"start_date": start.isoformat(), "end_date": end.isoformat()}
    return parameters | ({"fresh": "true"} if fresh else {})


class Reconcile(Protocol):
    """A running `reconcile`. A long backfill is divided into windows of at most `longest`."""

    description: str  # such as its URL
    longest: timedelta | None

    def window(
        self,
        start: datetime,
        end: datetime,
        progress: Callable[[datetime, int], None],
        *,
        fresh: bool = False,
    ) -> ReconcileAnswer:
        """Store what is missing in a window.

        `progress` is called with the creation time and the number of the items seen so far.
        `fresh`: begin at the start, even if an earlier run of the same window was interrupted.

        Raises:
            CommandError: it cannot be called at all.
        """


class Installation(Protocol):
    """Every method may raise UsageError or CommandError, with a text for people."""

    title: str
    instructions: Instructions
    asks_before_changes: bool
    storage_poll_seconds: float  # of a page that follows what is stored
    status_poll_seconds: float

    # History

    def log_lines(self, query: LogQuery) -> list[LogLine]:
        """Log lines of all functions, oldest first."""

    def events_of_item(self, item_id: str, last: str) -> list[str]:
        """The ids of the events that named an item, oldest first, within a time such as 30d."""

    def event_ids_ending(self, ending: str, last: str) -> set[str]:
        """The ids of known events that end like this, within a time such as 30d."""

    def item_ids_ending(self, ending: str, last: str) -> set[str]:
        """The ids of known items that end like this, within a time such as 30d."""

    def receipts(self, event_ids: Iterable[str]) -> dict[str, Receipt]:
        """The receipts of those events that have one."""

    def place_of(self, event_id: str) -> Place:
        """Where the message of an unfinished event is."""

    def queued_events(self) -> Mapping[str, QueuedEvent] | None:
        """The events whose messages wait; None where they could only be listed by leasing."""

    def dead_letters(self) -> DeadLetters:
        """The subscription to the dead letters.

        Raises:
            UsageError: Pub/Sub cannot be reached.
        """

    # Status

    def components(self) -> Iterator[Finding]:
        """What is deployed or running."""

    def backlog(self) -> Backlog:
        """The backlog. Must not lease messages, which would hide them from other clients."""

    def archives_photos(self) -> bool:
        """Whether there is the function `archive`."""

    def photo_backlog(self) -> Backlog:
        """What Pub/Sub still has to deliver to `archive`, where there is this function."""

    def events_received(self) -> tuple[int, int]:
        """How many events were published within the last hour and the last day."""

    def schedules(self) -> Iterator[Finding]:
        """The scheduled jobs and their last runs."""

    # Diagnosis

    def check_access(self) -> Iterator[Check]:
        """Whether the user has access to the installation and to where its state is stored."""

    def secrets(self) -> list[Secret]:
        """The secrets whose format is to be checked, besides the API key."""

    def api(self) -> Api | None:
        """The real API; None where the sandbox has its own."""

    def check_resources(self) -> Iterator[Check]:
        """Whether all resources exist and are connected."""

    def endpoint(self) -> Endpoint | None:
        """The endpoint; None where nothing is deployed or running."""

    # Operations

    def reconcile(self) -> AbstractContextManager[Reconcile]:
        """A `reconcile` that works on this installation's storage."""

    def storage(self) -> StorageSettings:
        """Where the objects are stored."""

    def dimmy(self) -> DimmyClient:
        """A client of the API that this installation uses."""

    def publish(self, attributes: Mapping[str, str], data: bytes) -> None:
        """Publish a message to the topic of the events; returns once Pub/Sub has confirmed it."""

    def publish_dead_letter(self, attributes: Mapping[str, str], data: bytes) -> None:
        """Publish a message to the dead letters.

        Raises:
            UsageError: this installation takes none from a person.
        """

    def items_topic(self) -> str:
        """The name of the items topic.

        Raises:
            UsageError: there is none; the text says how to get one.
        """

    def publish_items(self, messages: Sequence[EncodedMessage]) -> None:
        """Publish to the items topic; returns once Pub/Sub has confirmed all of them."""

    def operator(self) -> str:
        """Who is using the commands."""


def open_objects(settings: StorageSettings) -> "LocalStore | GCSStore":
    """Storage for reading and writing single objects.

    Raises:
        UsageError: the storage library cannot use the credentials in the environment.
    """
    try:
        return open_storage(settings, try_seconds=OBJECT_SECONDS)
    except BaseError as error:
        raise UsageError(
            f"Storage cannot be opened: {first_line(error)}. These commands use the login"
            " of `gcloud auth login`: unset GOOGLE_SERVICE_ACCOUNT and the other variables of"
            " credentials."
        ) from error


def open_dimmy(url: str, key: str, concurrency: int, timeout_seconds: float) -> DimmyClient:
    """A client of the API that uses this machine's proxy and certificate authorities.

    Raises:
        UsageError: the URL, or what the environment says of these, cannot be used.
    """
    environment = Environment(os.environ)
    try:
        url = parse_api_url(url)
    except ValueError as error:
        raise UsageError(f"DIMMY_API_URL {error}.") from error
    network = read_network(environment, url)
    try:
        environment.raise_problems("the client")
    except SettingsError as error:
        raise UsageError(" ".join(error.problems)) from error
    return DimmyClient(DimmySettings(url, key, concurrency, timeout_seconds, network))
