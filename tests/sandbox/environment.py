"""The settings of the sandbox, from .env and the environment, and the note of a running stack."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from pipeline.dimmy.settings import DEFAULT_API_URL

ROOT = Path(__file__).resolve().parents[2]
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
    sandbox_api: str | None  # None: it uses the real one
    max_delivery_attempts: int
    signing_secrets: Sequence[str] = field(repr=False)


def read_settings() -> dict[str, str]:
    """The settings in .env; variables of the environment take precedence."""
    try:
        from_file = {k: v for k, v in dotenv_values(ROOT / ".env").items() if v}
    except UnicodeDecodeError:
        sys.exit(".env is not UTF-8 text: write it again, as .env.example shows.")
    return from_file | os.environ


def data_folder(settings: Mapping[str, str]) -> Path:
    """The folder in which `make run` stores, and which the other commands work on."""
    return Path(settings.get("DATA") or ROOT / ".data" / "run").absolute()


def real_api(settings: Mapping[str, str]) -> ApiAccess | None:
    """The real API, if there is a key for it."""
    key = settings.get("DIMMY_API_KEY")
    return ApiAccess(settings.get("DIMMY_API_URL") or DEFAULT_API_URL, key) if key else None


@contextlib.contextmanager
def announced(stack: RunningStack, folder: Path) -> Iterator[None]:
    """Let other commands find the stack while it is up."""
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
