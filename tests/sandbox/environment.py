"""The settings of the sandbox, from .env and the environment, and the file of a running stack."""

import contextlib
import fcntl
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from operate.console import UsageError
from pipeline.dimmy.settings import DEFAULT_API_URL
from sandbox.env_file import read_env_file

ROOT = Path(__file__).resolve().parents[2]
ENV_FILE = ROOT / ".env"
DEFAULT_PORT = "8080"


@dataclass(frozen=True)
class ApiAccess:
    """The URL of an API and a key for it."""

    url: str
    key: str


@dataclass(frozen=True)
class RunningStack:
    """What other commands need to know about a `make run`."""

    pubsub_host: str
    resolve_url: str
    webhook_url: str
    sandbox_api: str | None  # None: it uses the real API
    max_delivery_attempts: int
    signing_secrets: Sequence[str] = field(repr=False)
    items_topic: str | None = None
    archives_photos: bool = False
    keeps_messages: bool = False  # on the disk, which its Pub/Sub reads at the next start
    started_at: float = field(default_factory=lambda: psutil.Process().create_time())


def read_settings() -> dict[str, str]:
    """The settings in .env; variables of the environment take precedence, unless they are empty.

    `make` exports some of its variables empty.
    """
    try:
        from_file = read_env_file(ENV_FILE).values
    except UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    return {**from_file, **{k: v for k, v in os.environ.items() if v or k not in from_file}}


def data_folder(settings: Mapping[str, str]) -> Path:
    """The folder in which `make run` stores its data."""
    return Path(settings.get("DATA") or ROOT / ".data" / "run").absolute()


def real_api(settings: Mapping[str, str]) -> ApiAccess | None:
    """The real API, if DIMMY_API_KEY is set."""
    key = settings.get("DIMMY_API_KEY")
    return ApiAccess(settings.get("DIMMY_API_URL") or DEFAULT_API_URL, key) if key else None


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Keep other `make run`s from using the folder.

    Raises:
        UsageError: another one is using it, or its file system has no hard links.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_hard_links(folder)
    with (folder / ".lock-of-run").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"Another `make run` stores its data in {folder}: stop it, or give this one a"
                " folder and a port of its own: make run DATA=.data/other PORT=8081"
            ) from None
        yield


def _check_hard_links(folder: Path) -> None:
    """The storage library creates files with them, so that no one reads a part of a file."""
    with tempfile.TemporaryDirectory(prefix=".links-", dir=folder) as name:
        probe = Path(name) / "a"
        probe.touch()
        try:
            (Path(name) / "b").hardlink_to(probe)
        except OSError as error:
            raise UsageError(
                f"{folder} is on a file system without hard links ({error.strerror}), which storage"
                " needs: choose another folder with DATA=/a/folder. Memory cards (exFAT) and some"
                " network drives have none."
            ) from error


@contextlib.contextmanager
def announce(stack: RunningStack, folder: Path) -> Iterator[None]:
    """Write the file by which other commands find the stack, and delete it at the end."""
    file = _stack_file(folder)
    folder.mkdir(parents=True, exist_ok=True)
    process = {"pid": os.getpid(), "started": stack.started_at}
    unfinished = file.with_suffix(".new")
    unfinished.touch(mode=0o600)  # it contains signing secrets
    unfinished.write_text(json.dumps({"stack": asdict(stack), "process": process}))
    unfinished.rename(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def running_stack(folder: Path) -> RunningStack | None:
    """The stack of a running `make run`; None where there is none, or it was killed."""
    try:
        announced = json.loads(_stack_file(folder).read_text())
        process = announced["process"]
        is_running = psutil.Process(process["pid"]).create_time() == process["started"]
        return RunningStack(**announced["stack"]) if is_running else None
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None
    except (LookupError, TypeError):
        raise UsageError(
            f"The `make run` of {folder} is one of another version: stop it, and start it again."
        ) from None


def _stack_file(folder: Path) -> Path:
    return folder / ".running.json"
