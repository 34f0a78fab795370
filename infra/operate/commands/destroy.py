"""`make destroy`: deletes a deployment, with everything that it stores."""

from collections.abc import Mapping

from rich.console import Console

from operate.commands import package
from operate.console import UsageError, confirm, print_text
from operate.google.deployment import BUILD, read_deployment
from operate.google.gcloud import Gcloud
from operate.google.terraform import Terraform, protected_deletions


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
    if protected_deletions(terraform.changes(plan)):
        raise UsageError(
            f"{environment} is protected, so nothing was changed. To delete it: set"
            f" deletion_protection = false in infra/envs/{environment}.tfvars, make deploy, and"
            " make destroy again."
        )
    word = f"destroy-{environment}" if environment == "prod" else "yes"
    confirm(console, settings, "Delete all of this, with every scan that is stored?", word)
    terraform.apply(plan)
    print_text(
        console,
        f"\nThe project's APIs and gs://{deployment.state_bucket} remain. Delete the endpoint in"
        " Dimmy's dashboard, too.",
    )
    return 0
