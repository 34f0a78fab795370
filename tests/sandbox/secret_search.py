"""Nothing that anybody can read holds a secret: whatever the tests see is searched for them."""

import re
from collections.abc import Iterable
from pathlib import Path

# A signing secret, and a signature.
_FORMS = r"whsec_[A-Za-z0-9+/]{20}|v1,[A-Za-z0-9+/]{43}="
_SHORTEST = 8


class SecretShownError(AssertionError):
    """A secret, a key or a signature stands where it can be read."""


def refuse_secrets(where: str, texts: Iterable[str], secrets: Iterable[str] = ()) -> None:
    """Search texts for these secrets, and for anything in the form of one.

    Raises:
        SecretShownError: there is one; says where, and the text.
    """
    bare = {secret.removeprefix("whsec_") for secret in secrets}
    known = (re.escape(secret) for secret in bare if len(secret) >= _SHORTEST)
    search = re.compile("|".join([*known, _FORMS])).search
    for text in texts:
        if found := search(text):
            around = text[max(0, found.start() - 100) : found.end() + 100]
            raise SecretShownError(f"{where}: {around}")


def refuse_secrets_below(folder: Path, secrets: Iterable[str]) -> None:
    """The same for all files of a folder but hidden ones, of which one tells commands of secrets.

    Raises:
        SecretShownError: there is one.
    """
    secrets = list(secrets)
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            refuse_secrets(str(path), [path.read_text(errors="replace")], secrets)
