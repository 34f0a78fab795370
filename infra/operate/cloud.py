"""One installation in Google Cloud: which one is meant, and the programs that reach it."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from operate.console import CommandError, UsageError

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
ENVIRONMENTS = INFRA / "envs"
BUILD = ROOT / ".build"

HTTP_SECONDS = 30

_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
_GET_IT = {
    "gcloud": "https://cloud.google.com/sdk/docs/install",
    "terraform": "https://developer.hashicorp.com/terraform/install",
}


@dataclass(frozen=True)
class Installation:
    """An environment in a project."""

    environment: str
    project: str

    @property
    def prefix(self) -> str:
        """What the names of its resources begin with."""
        return f"dimmy-{self.environment}"

    @property
    def secrets(self) -> dict[str, str]:
        """The secrets' ids, by the names that Terraform has for them."""
        return {
            "api_key": f"{self.prefix}-api-key",
            "signing_secrets": f"{self.prefix}-signing-secrets",
        }

    @property
    def state_bucket(self) -> str:
        return f"{self.project}-dimmy-terraform-state"

    @property
    def variables(self) -> Path:
        """The file with the environment's variables."""
        return ENVIRONMENTS / f"{self.environment}.tfvars"

    @property
    def region(self) -> str:
        """The region that the environment's file sets, or else the default."""
        setting = re.compile(r'^\s*region\s*=\s*"([^"]+)"', re.MULTILINE)
        if found := setting.search(self.variables.read_text()):
            return found[1]
        declared = (INFRA / "variables.tf").read_text().partition('variable "region" {')[2]
        return declared.partition('default     = "')[2].partition('"')[0]


def read_installation(environ: Mapping[str, str]) -> Installation:
    """What ENV and PROJECT name.

    Raises:
        UsageError: one of them is missing or wrong; says what to write.
    """
    known = sorted(path.stem for path in ENVIRONMENTS.glob("*.tfvars"))
    environment, project = environ.get("ENV", ""), environ.get("PROJECT", "")
    problems = []
    if environment not in known:
        problems.append(
            f"ENV={environment} is none of {', '.join(known)} (the files in infra/envs)"
            if environment
            else f"ENV is missing: {', '.join(known)}"
        )
    if not _PROJECT.fullmatch(project):
        problems.append(
            f"PROJECT={project} is no project's id (6 to 30 lower-case letters, digits, dashes)"
            if project
            else "PROJECT is missing: the id of the Google Cloud project"
        )
    if problems:
        raise UsageError(f"{'. '.join(problems)}. As in: ENV=dev PROJECT=my-project")
    return Installation(environment, project)


class Cloud:
    """An installation, reached through gcloud and Terraform.

    Every method raises CommandError where the program fails, with what it said.
    """

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        for program, address in _GET_IT.items():
            if not shutil.which(program):
                raise UsageError(f"{program} is not installed: {address}")

    def gcloud(self, *arguments: str, given: bytes | None = None) -> str:
        """What a gcloud command prints. `given` is its standard input."""
        project = f"--project={self.installation.project}"
        return _run(["gcloud", *arguments, project, "--quiet"], given=given)

    def exists(self, *arguments: str) -> bool:
        """Whether a gcloud command that describes something finds it.

        Raises:
            CommandError: it cannot be told, because of a missing permission, say.
        """
        try:
            self.gcloud(*arguments)
        except CommandError as error:
            if re.search(r"not.?found|404|does not exist", str(error), re.IGNORECASE):
                return False
            raise
        return True

    def begin_terraform(self) -> None:
        """Let Terraform work on this installation's state."""
        environment = self.installation.environment
        self._terraform(
            "init",
            "-input=false",
            "-reconfigure",
            f"-backend-config=envs/{environment}.gcs.tfbackend",
            f"-backend-config=bucket={self.installation.state_bucket}",
        )

    def plan(self, archive: Path, versions: Mapping[str, str], *options: str) -> Path:
        """Show what Terraform would change; return the plan. `begin_terraform` comes first."""
        plan = self._folder / "plan"
        self._terraform(
            "plan",
            "-input=false",
            f"-var-file=envs/{self.installation.environment}.tfvars",
            f"-var=project={self.installation.project}",
            f"-var=archive={os.path.relpath(archive, INFRA)}",  # the same on every machine
            f"-var=secret_versions={json.dumps(dict(versions))}",
            f"-out={plan}",
            *options,
            shown=True,
        )
        return plan

    def protected_from(self, plan: Path) -> list[str]:
        """What the plan would delete although it is protected.

        Google's provider refuses that only half-way through, when other things are gone already.
        """
        changes = json.loads(self._terraform("show", "-json", str(plan)))["resource_changes"]
        return [
            change["address"]
            for change in changes
            if "delete" in change["change"]["actions"]
            and (change["change"]["before"] or {}).get("deletion_policy") == "PREVENT"
        ]

    def apply(self, plan: Path) -> None:
        """Change what the plan says."""
        self._terraform("apply", "-input=false", str(plan), shown=True)

    def outputs(self) -> dict[str, Any]:
        """Terraform's outputs.

        Raises:
            UsageError: nothing is deployed.
        """
        self.begin_terraform()
        outputs = json.loads(self._terraform("output", "-json") or "{}")
        if "webhook_url" not in outputs:
            where = self.installation
            raise UsageError(
                f"Nothing is deployed as {where.environment} in {where.project} yet: make deploy"
                f" ENV={where.environment} PROJECT={where.project}"
            )
        return {name: output["value"] for name, output in outputs.items()}

    def newest_versions(self) -> dict[str, str]:
        """The number of the newest enabled version of each secret.

        Raises:
            UsageError: a secret has none.
        """
        versions = {}
        for name, secret_id in self.installation.secrets.items():
            newest = self.newest_version(name)
            if newest is None:
                where = self.installation
                raise UsageError(
                    f"The secret {secret_id} has no value yet: make secrets"
                    f" ENV={where.environment} PROJECT={where.project}"
                )
            versions[name] = newest
        return versions

    def newest_version(self, secret: str) -> str | None:
        """The number of the newest enabled version of a secret, if it has one."""
        listed = self.gcloud(
            "secrets",
            "versions",
            "list",
            self.installation.secrets[secret],
            "--filter=state=ENABLED",
            "--sort-by=~createTime",
            "--limit=1",
            "--format=value(name.basename())",
        )
        return listed.strip() or None

    def metric(self, metric: str, subscription: str) -> float | None:
        """A number that Cloud Monitoring has of a subscription, some minutes old; None: no number.

        Raises:
            CommandError: it cannot be read.
        """
        name = subscription.rpartition("/")[2]
        points = self._points(
            f'metric.type="pubsub.googleapis.com/subscription/{metric}"'
            f' AND resource.labels.subscription_id="{name}"',
            minutes=15,
        )
        if not points:
            return None
        newest = max(points, key=lambda point: str(point["interval"]["endTime"]))
        return _value(newest)

    def counted(self, name: str, outcome: str, hours: int) -> int:
        """How often a log-based metric of the installation has counted an outcome of late.

        Raises:
            CommandError: it cannot be read.
        """
        points = self._points(
            f'metric.type="logging.googleapis.com/user/{self.installation.prefix}-{name}"'
            f' AND metric.labels.outcome="{outcome}" AND resource.type="cloud_run_revision"',
            minutes=hours * 60,
            **{
                "aggregation.alignmentPeriod": f"{hours * 3600}s",
                "aggregation.perSeriesAligner": "ALIGN_SUM",
                "aggregation.crossSeriesReducer": "REDUCE_SUM",
            },
        )
        return round(sum(map(_value, points)))

    def _points(self, selected: str, *, minutes: int, **aggregation: str) -> list[dict[str, Any]]:
        # gcloud has no command for time series; this is the variable by which it is told of
        # another address of the API, too.
        base = os.environ.get(
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING", "https://monitoring.googleapis.com/"
        )
        response = requests.get(
            f"{base}v3/projects/{self.installation.project}/timeSeries",
            params={"filter": selected, **_last_minutes(minutes), "view": "FULL", **aggregation},
            headers={"Authorization": f"Bearer {self.token('access')}"},
            timeout=HTTP_SECONDS,
        )
        if response.status_code != 200:
            raise CommandError(
                f"Cloud Monitoring answers {response.status_code}: {response.text[:300]}"
            )
        return [p for series in response.json().get("timeSeries", []) for p in series["points"]]

    def token(self, kind: str) -> str:
        """An access or identity token of the person that gcloud knows."""
        return self.gcloud("auth", f"print-{kind}-token").strip()

    @property
    def _folder(self) -> Path:
        folder = BUILD / f"{self.installation.project}-{self.installation.environment}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _terraform(self, *arguments: str, shown: bool = False) -> str:
        # What `init` writes belongs to one installation, so that no command ever meets another's.
        data = {"TF_DATA_DIR": str(self._folder / "terraform"), "TF_IN_AUTOMATION": "1"}
        command = ["terraform", f"-chdir={INFRA}", *arguments]
        return _run(command, environ=os.environ | data, shown=shown)


def _value(point: Mapping[str, Any]) -> float:
    return float(next(iter(point["value"].values())))


def _last_minutes(minutes: int) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "interval.startTime": (now - timedelta(minutes=minutes)).isoformat(),
        "interval.endTime": now.isoformat(),
    }


def _run(
    command: list[str],
    *,
    given: bytes | None = None,
    environ: Mapping[str, str] | None = None,
    shown: bool = False,
) -> str:
    done = subprocess.run(
        command,
        input=given,
        stdin=None if given is not None else subprocess.DEVNULL,
        capture_output=not shown,
        env=environ,
        check=False,
    )
    if done.returncode:
        said = "" if shown else "\n" + (done.stderr or done.stdout).decode(errors="replace").strip()
        raise CommandError(f"`{' '.join(command[:4])} ...` failed.{said}")
    return "" if shown else done.stdout.decode()
