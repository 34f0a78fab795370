"""Which deployment is meant: an environment in a project, and the names that follow from it."""

import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2
from lark.exceptions import UnexpectedInput

from operate.console import UsageError
from operate.installation import Instructions

ROOT = Path(__file__).resolve().parents[3]
INFRA = ROOT / "infra"
MODULE = INFRA / "modules" / "dimmy"
ENVIRONMENTS = INFRA / "envs"
BUILD = ROOT / ".build"

_PLAIN = hcl2.SerializationOptions(strip_string_quotes=True, with_comments=False)
_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")


@dataclass(frozen=True)
class Deployment:
    """An environment in a project."""

    environment: str
    project: str

    @property
    def instructions(self) -> Instructions:
        """How commands for it are typed."""
        return Instructions(
            f"ENV={self.environment} PROJECT={self.project}",
            f"infra/envs/{self.environment}.tfvars",
            has_secret_manager=True,
        )

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
    def region(self) -> str:
        """The region in the environment's file, or else the default."""
        declared = read_hcl(MODULE / "variables.tf")["variable"]
        default = next(each["region"]["default"] for each in declared if "region" in each)
        return str(self.variables.get("region") or default)

    @property
    def domain(self) -> str:
        """The domain of the load balancer; empty without one."""
        return str((self.variables.get("load_balancer") or {}).get("domain", ""))

    @functools.cached_property
    def variables(self) -> Mapping[str, Any]:
        """The variables in the environment's file.

        Raises:
            UsageError: it is no HCL, or it sets a variable that does not exist.
        """
        return read_variables(ENVIRONMENTS / f"{self.environment}.tfvars", INFRA / "variables.tf")


def read_variables(values: Path, declarations: Path) -> dict[str, Any]:
    """The variables that a file of values sets, all of which must be declared.

    Terraform only warns of others and takes the default of what was meant.

    Raises:
        UsageError: one of the files is no HCL, or a variable is not declared; says which.
    """
    read = read_hcl(values)
    declared = {name for block in read_hcl(declarations)["variable"] for name in block}
    for name in read:
        if name not in declared:
            similar = difflib.get_close_matches(name, declared, 1)
            meant = f" Is {similar[0]} meant?" if similar else ""
            raise UsageError(
                f"infra/envs/{values.name} sets {name}, which infra/variables.tf does not"
                f" have.{meant}"
            )
    return read


def read_hcl(path: Path) -> dict[str, Any]:
    """The attributes and blocks of a file of Terraform's.

    Raises:
        UsageError: it is no HCL.
    """
    try:
        read: dict[str, Any] = hcl2.loads(path.read_text(), serialization_options=_PLAIN)
    except UnexpectedInput as error:
        where = f"{path.relative_to(ROOT)}, line {error.line}"
        raise UsageError(f"{where} cannot be read. `terraform fmt` says more.") from error
    return read


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
    elif not (ENVIRONMENTS / f"{environment}.gcs.tfbackend").exists():
        problems.append(
            f"infra/envs/{environment}.gcs.tfbackend is missing: copy another environment's, and"
            " change its prefix"
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
