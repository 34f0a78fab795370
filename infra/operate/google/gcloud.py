"""gcloud, for one deployment."""

import re

from operate.console import CommandError
from operate.google.deployment import Deployment
from operate.google.programs import call, require


class Gcloud:
    """Runs gcloud commands in the project of a deployment.

    Every method raises CommandError where gcloud fails, with what it printed.
    """

    def __init__(self, deployment: Deployment) -> None:
        require("gcloud")
        self.deployment = deployment

    def run(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run a command; return what it prints."""
        project = f"--project={self.deployment.project}"
        return call(["gcloud", *arguments, project, "--quiet"], stdin=stdin)

    def exists(self, *arguments: str) -> bool:
        """Whether a command that describes something finds it.

        Raises:
            CommandError: it is unknown, because of a missing permission, for example.
        """
        try:
            self.run(*arguments)
        except CommandError as error:
            if re.search(r"not.?found|404|does not exist", str(error), re.IGNORECASE):
                return False
            raise
        return True

    def token(self, kind: str) -> str:
        """An `access` or `identity` token of the person who is signed in."""
        return self.run("auth", f"print-{kind}-token").strip()

    def newest_secret_version(self, name: str) -> str | None:
        """The number of the newest enabled version of a secret, if it has one.

        `name` is that of `Deployment.secrets`.
        """
        listed = self.run(
            "secrets",
            "versions",
            "list",
            self.deployment.secrets[name],
            "--filter=state=ENABLED",
            "--sort-by=~createTime",
            "--limit=1",
            "--format=value(name.basename())",
        )
        return listed.strip() or None

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
