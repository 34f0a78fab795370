"""`make destroy`: deletes a deployment, with everything that it stores."""

from collections.abc import Mapping

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from operate.commands import package
from operate.console import UsageError, confirm, print_text
from operate.google.deployment import BUILD, read_deployment
from operate.google.gcloud import Gcloud
from operate.google.programs import ProgramError, follow
from operate.google.terraform import Change, Terraform, protected_deletions

_DELETED = "Removing gs://"  # how gcloud begins its line about each object
_EMPTY = "matched no objects"


def run(settings: Mapping[str, str], console: Console) -> int:
    """Show what would be deleted, ask, and delete it."""
    deployment = read_deployment(settings)
    gcloud = Gcloud(deployment)
    terraform = Terraform(gcloud)
    gcloud.check_sign_in()
    terraform.init()
    unread = {"secret_versions": dict.fromkeys(deployment.secrets, "1")}
    plan = terraform.plan(package.build(BUILD), unread, "-destroy")
    environment = deployment.environment
    changes = terraform.changes(plan)
    if protected_deletions(changes):
        raise UsageError(
            f"{environment} is protected, so nothing was changed. To delete it: set"
            f" deletion_protection = false in {deployment.instructions.settings_file}, then"
            f" {deployment.instructions.command('deploy')}, then this command again."
        )
    word = f"destroy-{environment}" if environment == "prod" else "yes"
    confirm(console, settings, "Delete all of this, with every scan that is stored?", word)
    for bucket in _buckets(changes):
        _delete_objects(console, gcloud, bucket)
    terraform.apply(plan)
    print_text(
        console,
        f"\nThe project's APIs and gs://{deployment.state_bucket} remain. Delete the endpoint in"
        " Dimmy's dashboard, too.",
    )
    return 0


def _buckets(changes: list[Change]) -> list[str]:
    """The buckets that are deleted with what is in them."""
    return [
        each["change"]["before"]["name"]
        for each in changes
        if each["type"] == "google_storage_bucket" and each["change"]["before"]["force_destroy"]
    ]


def _delete_objects(console: Console, gcloud: Gcloud, bucket: str) -> None:
    """Delete all versions of all objects.

    Terraform would do so one by one, with a token that it cannot renew after an hour. What is
    written in the meantime is left to it.

    Raises:
        ProgramError: not all of them could be deleted. The command can be repeated.
    """
    command = gcloud.command("storage", "rm", "--all-versions", f"gs://{bucket}/**")
    other_lines: list[str] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("")
        deleted = 0

        def read_line(line: str) -> None:
            nonlocal deleted
            deleted += line.count(_DELETED)
            if _DELETED not in line:
                other_lines.append(line)
            progress.update(bar, description=f"gs://{bucket}: {deleted} object versions deleted")

        status = follow(command, read_line, "stderr")
    output = "".join(other_lines)
    if status and _EMPTY not in output:
        raise ProgramError(command, output, is_shown=False)
