"""What the commands of the sandbox are told: .env, the environment, and the stack that is up."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from operate.console import UsageError
from sandbox.processes import is_free

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_API_URL = "https://dimmy.api.optioryx.com"


@dataclass(frozen=True)
class Api:
    """Which Dimmy to ask."""

    url: str
    key: str


@dataclass(frozen=True)
class RunningStack:
    """What other commands need to know of a `make run`."""

    pubsub_host: str
    resolve_url: str
    webhook_url: str
    sandbox_api: str | None  # None: it asks the real one
    max_delivery_attempts: int
    signing_secrets: Sequence[str] = field(repr=False)


def read_settings() -> dict[str, str]:
    """The settings of .env, and over them those of the environment."""
    try:
        from_file = {k: v for k, v in dotenv_values(ROOT / ".env").items() if v}
    except UnicodeDecodeError:
        sys.exit(".env is not UTF-8 text: write it anew, as .env.example shows.")
    return from_file | os.environ


def data_folder(settings: Mapping[str, str]) -> Path:
    """Where `make run` stores, and what `make backfill` and `make redrive` work on."""
    return Path(settings.get("DATA") or ROOT / ".data" / "run").absolute()


def real_api(settings: Mapping[str, str]) -> Api | None:
    """The real Dimmy, where there is a key for it."""
    key = settings.get("DIMMY_API_KEY")
    return Api(settings.get("DIMMY_API_URL") or DEFAULT_API_URL, key) if key else None


def read_port(settings: Mapping[str, str], name: str, default: str) -> int:
    """The free port that a setting names.

    Raises:
        UsageError: it is no port, or busy.
    """
    text = settings.get(name) or default
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise UsageError(f"{name}={text} is no port: use a number from 1 to 65535.")
    if not is_free(int(text)):
        raise UsageError(
            f"Port {text} is busy: stop the program that listens there, or choose another one with"
            f" {name}=..."
        )
    return int(text)


@contextlib.contextmanager
def announced(stack: RunningStack, folder: Path) -> Iterator[None]:
    """Let other commands find the stack for as long as it is up."""
    note = _note(folder)
    folder.mkdir(parents=True, exist_ok=True)
    note.touch(mode=0o600)  # it holds signing secrets
    note.write_text(json.dumps(asdict(stack)))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def running_stack(folder: Path) -> RunningStack | None:
    """The stack of a `make run` in another terminal, if there is one."""
    try:
        return RunningStack(**json.loads(_note(folder).read_text()))
    except FileNotFoundError:
        return None


def _note(folder: Path) -> Path:
    return folder / ".running.json"
