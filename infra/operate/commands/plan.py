"""`make plan`: shows what a deployment would change."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from operate.commands import package
from operate.console import UsageError, print_text
from operate.google.deployment import BUILD, Deployment, read_deployment
from operate.google.gcloud import Gcloud
from operate.google.terraform import Terraform


def run(settings: Mapping[str, str], console: Console) -> int:
    """Show the plan."""
    deployment = read_deployment(settings)
    show_plan(deployment, Terraform(deployment), console)
    return 0


def show_plan(deployment: Deployment, terraform: Terraform, console: Console) -> Path:
    """Build the package and print the plan; return the file of the plan.

    Raises:
        UsageError: a secret has no value, or the plan deletes something protected.
    """
    gcloud = Gcloud(deployment)
    archive = package.build(BUILD)
    print_text(console, f"Package: {archive.name}")
    versions = _secret_versions(gcloud)
    terraform.init()
    plan = terraform.plan(archive, versions)
    if protected := terraform.protected_deletions(plan):
        raise UsageError(
            f"This would delete {', '.join(protected)}, which deletion_protection forbids, so"
            " nothing was changed. A setting that cannot be changed in place, such as the region or"
            " a name, has been changed."
        )
    return plan


def _secret_versions(gcloud: Gcloud) -> dict[str, str]:
    """The number of the newest enabled version of each secret."""
    versions = {}
    for name, secret_id in gcloud.deployment.secrets.items():
        version = gcloud.newest_secret_version(name)
        if version is None:
            command = gcloud.deployment.instructions.command("secrets")
            raise UsageError(f"The secret {secret_id} has no value yet: {command}")
        versions[name] = version
    return versions
