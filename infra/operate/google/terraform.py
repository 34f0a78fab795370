"""Terraform, for one deployment."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from operate.console import UsageError
from operate.google.deployment import BUILD, INFRA, Deployment
from operate.google.programs import call, require


class Terraform:
    """Works on the state of a deployment. Raises CommandError where Terraform fails."""

    def __init__(self, deployment: Deployment) -> None:
        require("terraform")
        self._deployment = deployment

    def init(self) -> None:
        """Connect to the deployment's state. Must be called before `plan`."""
        self._run(
            "init",
            "-input=false",
            "-reconfigure",
            f"-backend-config=envs/{self._deployment.environment}.gcs.tfbackend",
            f"-backend-config=bucket={self._deployment.state_bucket}",
        )

    def is_from_before_the_module(self) -> bool:
        """Whether the state has resources outside of the module, which `deploy` moves into it."""
        state = json.loads(self._run("show", "-json") or "{}")
        root = (state.get("values") or {}).get("root_module", {})
        return bool(root.get("resources"))

    def plan(self, archive: Path, secret_versions: Mapping[str, str], *options: str) -> Path:
        """Print what would change; return the file of the plan.

        `archive` is the package to deploy; `secret_versions` are the numbers of the secrets'
        versions that the functions read.
        """
        plan = self._folder / "plan"
        self._run(
            "plan",
            "-input=false",
            f"-var-file=envs/{self._deployment.environment}.tfvars",
            f"-var=project={self._deployment.project}",
            f"-var=archive={os.path.relpath(archive, INFRA)}",  # the same on every machine
            f"-var=secret_versions={json.dumps(dict(secret_versions))}",
            f"-out={plan}",
            *options,
            shown=True,
        )
        return plan

    def protected_deletions(self, plan: Path) -> list[str]:
        """The addresses that a plan would delete although they are protected.

        Google's provider refuses that only during the apply, when other things are deleted already.
        """
        changes = json.loads(self._run("show", "-json", str(plan)))["resource_changes"]
        return [
            change["address"]
            for change in changes
            if "delete" in change["change"]["actions"]
            and (change["change"]["before"] or {}).get("deletion_policy") == "PREVENT"
        ]

    def apply(self, plan: Path) -> None:
        """Make the changes of a plan."""
        self._run("apply", "-input=false", str(plan), shown=True)

    def outputs(self) -> dict[str, Any]:
        """The outputs of the deployment.

        Raises:
            UsageError: nothing is deployed.
        """
        self.init()
        outputs = json.loads(self._run("output", "-json") or "{}")
        if "webhook_url" not in outputs:
            deployment = self._deployment
            deploy = deployment.instructions.command("deploy")
            raise UsageError(
                f"Nothing is deployed as {deployment.environment} in {deployment.project} yet:"
                f" {deploy}"
            )
        return {name: output["value"] for name, output in outputs.items()}

    @property
    def _folder(self) -> Path:
        folder = BUILD / f"{self._deployment.project}-{self._deployment.environment}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _run(self, *arguments: str, shown: bool = False) -> str:
        # What `init` writes belongs to one deployment, and no command may find another's.
        data = {"TF_DATA_DIR": str(self._folder / "terraform"), "TF_IN_AUTOMATION": "1"}
        # Neither a file nor the message of an error gets the codes of colours.
        plain = [] if shown and sys.stdout.isatty() else ["-no-color"]
        command = ["terraform", f"-chdir={INFRA}", arguments[0], *plain, *arguments[1:]]
        return call(command, environ=os.environ | data, shown=shown)
