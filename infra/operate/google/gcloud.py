"""gcloud, for one deployment."""

import json
import re
import time
from typing import Any

from operate.console import CommandError, UsageError
from operate.google.deployment import Deployment
from operate.google.programs import call, require
from operate.google.refusals import is_api_disabled

# Google's access tokens are valid for an hour. A deployment begins with most of it.
_LEAST_MINUTES = 45
_TOKEN_IS_KEPT_SECONDS = 300.0

_MISSING = re.compile(r"not.?found|\b404\b|does not exist", re.IGNORECASE)
_FORBIDDEN = re.compile(r"\b403\b|PERMISSION_DENIED|does not have \S+ access")

# What gcloud prints where an account is missing, or has to sign in again.
_SIGN_IN = "gcloud auth login"


class Gcloud:
    """Runs gcloud commands in the project of a deployment.

    Every method raises CommandError where gcloud fails, with what it printed, and UsageError where
    nobody is signed in.
    """

    def __init__(self, deployment: Deployment) -> None:
        require("gcloud")
        self.deployment = deployment
        self._token = ""
        self._token_is_kept_until = 0.0

    def command(self, *arguments: str) -> list[str]:
        """The words of a command in the project, which asks nothing."""
        return ["gcloud", *arguments, f"--project={self.deployment.project}", "--quiet"]

    def run(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run a command; return what it prints."""
        try:
            return call(self.command(*arguments), stdin=stdin)
        except CommandError as error:
            if _SIGN_IN in str(error):
                text = f"gcloud is not signed in, or has to sign in again: {_SIGN_IN}"
                raise UsageError(text) from error
            raise

    def read_json(self, *arguments: str) -> dict[str, Any]:
        """The object that a command prints as JSON."""
        read: dict[str, Any] = json.loads(self.run(*arguments, "--format=json"))
        return read

    def find_json(self, *arguments: str) -> dict[str, Any] | None:
        """The same of a command that describes something; None if that does not exist.

        None, too, if its API is disabled.

        Raises:
            CommandError: it is unknown, because of a missing permission, for example.
        """
        try:
            return self.read_json(*arguments)
        except CommandError as error:
            if _is_missing(error):
                return None
            raise

    def exists(self, *arguments: str) -> bool:
        """Whether a command that describes something finds it; otherwise like `find_json`."""
        try:
            self.run(*arguments)
        except CommandError as error:
            if _is_missing(error):
                return False
            raise
        return True

    def check_sign_in(self) -> None:
        """Raise UsageError where nobody is signed in."""
        self.access_token()

    def access_token(self) -> str:
        """An access token of the account of gcloud, valid for most of an hour."""
        if time.monotonic() > self._token_is_kept_until:
            self._token = self.run(
                "config",
                "config-helper",
                f"--min-expiry={_LEAST_MINUTES}m",
                "--format=value(credential.access_token)",
            ).strip()
            if not self._token:
                raise CommandError("gcloud has no access token for its account.")
            self._token_is_kept_until = time.monotonic() + _TOKEN_IS_KEPT_SECONDS
        return self._token

    def identity_token(self, audience: str) -> str:
        """An identity token of the account of gcloud, for a function at this URL."""
        try:
            # Service accounts need an audience; people cannot have one.
            return self.run("auth", "print-identity-token", f"--audiences={audience}").strip()
        except CommandError as error:
            if "Invalid account type" not in str(error):
                raise
            return self.run("auth", "print-identity-token").strip()

    def enabled_secret_versions(self, name: str, *options: str) -> list[str]:
        """The numbers of the enabled versions of a secret, the newest first.

        `name` is that of `Deployment.secrets`.

        Raises:
            UsageError: the secret does not exist yet.
        """
        try:
            listed = self.run(
                "secrets",
                "versions",
                "list",
                self.deployment.secrets[name],
                "--filter=state=ENABLED",
                "--sort-by=~createTime",
                *options,
                "--format=value(name.basename())",
            )
        except CommandError as error:
            if _is_missing(error):
                bootstrap = self.deployment.instructions.command("bootstrap")
                raise UsageError(f"The secrets do not exist yet: {bootstrap}") from error
            raise
        return listed.split()

    def newest_secret_version(self, name: str) -> str | None:
        """The first of `enabled_secret_versions`, if there is one."""
        return next(iter(self.enabled_secret_versions(name, "--limit=1")), None)

    def read_secret(self, name: str) -> str:
        """The newest value of a secret, or nothing."""
        version = self.newest_secret_version(name)
        if version is None:
            return ""
        secret_id = self.deployment.secrets[name]
        return self.run("secrets", "versions", "access", version, f"--secret={secret_id}").strip()

    def add_secret_version(self, name: str, value: str) -> str:
        """Store a value; return the number of its version."""
        added = self.run(
            "secrets",
            "versions",
            "add",
            self.deployment.secrets[name],
            "--data-file=-",
            "--format=value(name.basename())",
            stdin=value.encode(),
        )
        return added.strip()


def _is_missing(error: CommandError) -> bool:
    """Whether gcloud has not found what it was to describe."""
    text = str(error)
    is_not_found = bool(_MISSING.search(text)) and not _FORBIDDEN.search(text)
    return is_not_found or is_api_disabled(error)
