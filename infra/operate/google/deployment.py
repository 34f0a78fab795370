"""Which deployment is meant: an environment in a project, and the names that follow from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from operate.console import UsageError
from operate.installation import Instructions

ROOT = Path(__file__).resolve().parents[3]
INFRA = ROOT / "infra"
MODULE = INFRA / "modules" / "dimmy"
ENVIRONMENTS = INFRA / "envs"
BUILD = ROOT / ".build"

_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")


@dataclass(frozen=True)
class Deployment:
    """An environment in a project."""

    environment: str
    project: str

    @property
    def instructions(self) -> Instructions:
        """How commands for it are typed."""
        return Instructions(f"ENV={self.environment} PROJECT={self.project}")

    @property
    def prefix(self) -> str:
        """The beginning of the names of its resources."""
        return f"dimmy-{self.environment}"

    @property
    def secrets(self) -> dict[str, str]:
        """The ids of the secrets, by their names in Terraform."""
        return {
            "api_key": f"{self.prefix}-api-key",
            "signing_secrets": f"{self.prefix}-signing-secrets",
        }

    @property
    def state_bucket(self) -> str:
        """The bucket of Terraform's state."""
        return f"{self.project}-dimmy-terraform-state"

    @property
    def variables(self) -> Path:
        """The file with the environment's variables."""
        return ENVIRONMENTS / f"{self.environment}.tfvars"

    @property
    def region(self) -> str:
        """The region in the environment's file, or else the default."""
        setting = re.compile(r'^\s*region\s*=\s*"([^"]+)"', re.MULTILINE)
        if found := setting.search(self.variables.read_text()):
            return found[1]
        declared = (MODULE / "variables.tf").read_text().partition('variable "region" {')[2]
        return declared.partition('default     = "')[2].partition('"')[0]


def read_deployment(settings: Mapping[str, str]) -> Deployment:
    """The deployment that ENV and PROJECT name.

    Raises:
        UsageError: one of them is missing or wrong; says what to write.
    """
    known = sorted(path.stem for path in ENVIRONMENTS.glob("*.tfvars"))
    environment, project = settings.get("ENV", ""), settings.get("PROJECT", "")
    problems = []
    if environment not in known:
        problems.append(
            f"ENV={environment} is none of {', '.join(known)} (the files in infra/envs)"
            if environment
            else f"ENV is missing: {', '.join(known)}"
        )
    if not _PROJECT.fullmatch(project):
        problems.append(
            f"PROJECT={project} is not a project's id (6 to 30 lower-case letters, digits, dashes)"
            if project
            else "PROJECT is missing: the id of the Google Cloud project"
        )
    if problems:
        raise UsageError(f"{'. '.join(problems)}. As in: ENV=dev PROJECT=my-project")
    return Deployment(environment, project)
