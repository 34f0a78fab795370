"""Terraform, for one deployment."""

import atexit
import functools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from operate.console import CommandError, UsageError
from operate.google import refusals
from operate.google.deployment import BUILD, ENVIRONMENTS, INFRA, read_hcl
from operate.google.gcloud import Gcloud
from operate.google.programs import ProgramError, call, call_shown, follow, require

_LOCK_SECONDS = 60  # that a command waits for another one on the same state


Change = dict[str, Any]  # an `address`, a `type`, and a `change`: `actions`, `before`, `after`


def protected_deletions(changes: list[Change]) -> list[Change]:
    """The changes that would delete something protected.

    Google's provider refuses that only during the apply, when other things are deleted already.
    """
    return [
        each
        for each in changes
        if "delete" in each["change"]["actions"]
        and (each["change"]["before"] or {}).get("deletion_policy") == "PREVENT"
    ]


def _is_rest_of(confirmed: list[str] | None, actions: list[str]) -> bool:
    """Whether a change is a confirmed one, or creates again what it has created in part."""
    return actions == confirmed or (confirmed == ["create"] and "create" in actions)


class Terraform:
    """Works on the state of a deployment. Raises CommandError where Terraform fails."""

    def __init__(self, gcloud: Gcloud) -> None:
        require("terraform")
        self._gcloud = gcloud
        self.deployment = gcloud.deployment

    def init(self) -> None:
        """Connect to the deployment's state. Must be called before `plan`."""
        self._run(
            "init",
            "-input=false",
            "-reconfigure",
            f"-backend-config=envs/{self.deployment.environment}.gcs.tfbackend",
            f"-backend-config=bucket={self.deployment.state_bucket}",
        )

    def is_from_before_the_module(self) -> bool:
        """Whether the state has resources outside of the module, which `deploy` moves into it."""
        state = json.loads(self._run("show", "-json") or "{}")
        root = (state.get("values") or {}).get("root_module", {})
        return bool(root.get("resources"))

    def plan(
        self, archive: Path, variables: Mapping[str, object], *options: str, shown: bool = True
    ) -> Path:
        """Plan what would change, and print it if it is `shown`; return the file of the plan.

        `archive` is the package to deploy; `variables` are those that no file sets.
        """
        plan = self._plans / "plan"
        arguments = [
            "-input=false",
            f"-lock-timeout={_LOCK_SECONDS}s",
            f"-var-file=envs/{self.deployment.environment}.tfvars",
            f"-var=project={self.deployment.project}",
            f"-var=archive={os.path.relpath(archive, INFRA)}",  # the same on every machine
            *(f"-var={name}={json.dumps(value)}" for name, value in variables.items()),
            f"-out={plan}",
            *options,
        ]
        if shown:
            self._run_shown("plan", *arguments)
        else:
            self._run("plan", *arguments)
        return plan

    def changes(self, plan: Path) -> list[Change]:
        """What a plan would change."""
        changes: list[Change] = json.loads(self._run("show", "-json", str(plan))).get(
            "resource_changes", []
        )
        return [each for each in changes if each["change"]["actions"] not in (["no-op"], ["read"])]

    def plan_rest(
        self,
        confirmed: list[Change],
        archive: Path,
        variables: Mapping[str, object],
        *options: str,
        shown: bool = True,
    ) -> Path:
        """Plan what is missing of changes that somebody has confirmed.

        Terraform replaces what it has created only in part.

        Raises:
            UsageError: the plan has other changes, too.
        """
        plan = self.plan(archive, variables, *options, shown=shown)
        known = {each["address"]: each["change"]["actions"] for each in confirmed}
        other = [
            each["address"]
            for each in self.changes(plan)
            if not _is_rest_of(known.get(each["address"]), each["change"]["actions"])
        ]
        if other:
            raise UsageError(
                f"Something else would change now: {', '.join(other)}. Deploy again, to see it."
            )
        return plan

    def apply(self, plan: Path) -> None:
        """Make the changes of a plan, and print them."""
        self._run_shown("apply", "-input=false", f"-lock-timeout={_LOCK_SECONDS}s", str(plan))

    def apply_quietly(self, plan: Path, console: Console, title: str) -> None:
        """Make the changes of a plan with a bar that shows how many of them are done."""
        command = self._command(
            "apply", "-json", "-input=false", f"-lock-timeout={_LOCK_SECONDS}s", str(plan)
        )
        errors: list[str] = []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            bar = progress.add_task(title, total=len(self.changes(plan)))

            def read_line(line: str) -> None:
                event = json.loads(line) if line.startswith("{") else {}
                if event.get("type") == "apply_complete":
                    progress.advance(bar)
                diagnostic = event.get("diagnostic") or {}
                if diagnostic.get("severity") == "error":
                    errors.append(f"Error: {diagnostic['summary']}\n{diagnostic.get('detail', '')}")

            status = follow(command, read_line, "stdout", env=self._environ)
        if status:
            self._fail(ProgramError(command, "\n".join(errors), is_shown=False))

    @property
    def lock_url(self) -> str:
        """The object that locks the state, which exists only while a command works on it."""
        backend = read_hcl(ENVIRONMENTS / f"{self.deployment.environment}.gcs.tfbackend")
        return f"gs://{self.deployment.state_bucket}/{backend['prefix']}/default.tflock"

    def unlock(self, lock_id: str) -> None:
        """Remove the lock of the state."""
        self._run("force-unlock", "-force", lock_id)

    def outputs(self) -> dict[str, Any]:
        """The outputs of the deployment.

        Raises:
            UsageError: nothing is deployed.
        """
        self.init()
        outputs = json.loads(self._run("output", "-json") or "{}")
        if "webhook_url" not in outputs:
            deployment = self.deployment
            deploy = deployment.instructions.command("deploy")
            raise UsageError(
                f"Nothing is deployed as {deployment.environment} in {deployment.project} yet:"
                f" {deploy}"
            )
        return {name: output["value"] for name, output in outputs.items()}

    @functools.cached_property
    def _plans(self) -> Path:
        """A folder for the plans of this command: no other one may replace what is confirmed."""
        folder = tempfile.mkdtemp(prefix="plan-", dir=self._folder)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    @property
    def _folder(self) -> Path:
        folder = BUILD / f"{self.deployment.project}-{self.deployment.environment}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def _environ(self) -> dict[str, str]:
        return os.environ | {
            # What `init` writes belongs to one deployment, and no command may find another's.
            "TF_DATA_DIR": str(self._folder / "terraform"),
            "TF_IN_AUTOMATION": "1",
            # One account for gcloud and Terraform.
            "GOOGLE_OAUTH_ACCESS_TOKEN": self._gcloud.access_token(),
        }

    @staticmethod
    def _command(verb: str, *arguments: str) -> list[str]:
        return ["terraform", f"-chdir={INFRA}", verb, *arguments]

    def _run(self, verb: str, *arguments: str) -> str:
        # Errors are printed without the codes of colours.
        command = self._command(verb, "-no-color", *arguments)
        try:
            return call(command, environ=self._environ)
        except ProgramError as error:
            self._fail(error)

    def _run_shown(self, verb: str, *arguments: str) -> None:
        plain = [] if sys.stdout.isatty() else ["-no-color"]
        try:
            call_shown(self._command(verb, *plain, *arguments), environ=self._environ)
        except ProgramError as error:
            self._fail(error)

    def _fail(self, error: ProgramError) -> NoReturn:
        """Raise the error, with what to do where that is known.

        Raises:
            UsageError: there is no state yet.
        """
        if refusals.is_state_missing(error.output):
            deployment = self.deployment
            bootstrap = deployment.instructions.command("bootstrap")
            raise UsageError(
                f"gs://{deployment.state_bucket} with Terraform's state does not exist. Is"
                f" {deployment.project} the right project? Before the first deployment: {bootstrap}"
            ) from error
        if advice := refusals.advice(error.output, self.deployment):
            raise CommandError(advice) from error
        raise error
