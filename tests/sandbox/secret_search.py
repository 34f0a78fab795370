"""Searches logs, responses and files for secrets; the tests fail if they contain one."""

import re
from collections.abc import Iterable
from pathlib import Path

# A signing secret, and a signature.
_PATTERNS = r"whsec_[A-Za-z0-9+/]{20}|v1,[A-Za-z0-9+/]{43}="
_MIN_LENGTH = 8


class SecretLeakError(AssertionError):
    """A text contains a secret, a key or a signature."""


def assert_no_secrets(source: str, texts: Iterable[str], secrets: Iterable[str] = ()) -> None:
    """Search texts for these secrets, and for anything with the format of one.

    Raises:
        SecretLeakError: a text contains one; the message has `source` and the text around it.
    """
    bare = {secret.removeprefix("whsec_") for secret in secrets}
    known = (re.escape(secret) for secret in bare if len(secret) >= _MIN_LENGTH)
    search = re.compile("|".join([*known, _PATTERNS])).search
    for text in texts:
        if found := search(text):
            around = text[max(0, found.start() - 100) : found.end() + 100]
            raise SecretLeakError(f"{source}: {around}")


def assert_no_secrets_below(folder: Path, secrets: Iterable[str]) -> None:
    """Search all files of a folder, except hidden ones: `.running.json` contains the secrets.

    Raises:
        SecretLeakError: a file contains one.
    """
    secrets = list(secrets)
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            assert_no_secrets(str(path), [path.read_text(errors="replace")], secrets)
