"""`make bootstrap`: creates what the first deployment needs.

A bucket for Terraform's state, the APIs, Pub/Sub's service agent, and the secrets, which are empty
at first: a function does not deploy while a secret of it has no version. It can be repeated: what
exists stays as it is.
"""

from collections.abc import Mapping

from rich.console import Console

from operate.commands import package
from operate.console import UsageError, confirm, print_text
from operate.google.deployment import BUILD, Deployment, read_deployment
from operate.google.gcloud import Gcloud
from operate.google.service_agents import create_service_agents
from operate.google.terraform import Terraform

# Those that gcloud and Terraform themselves need, and that of the service agent; Terraform enables
# the others.
_FIRST_APIS = ("cloudresourcemanager", "iam", "pubsub", "secretmanager", "serviceusage", "storage")

# Google takes some minutes to make these known everywhere: accounts and their roles, on which
# builds and functions depend, and metrics, on which alerts depend.
_FIRST_RESOURCES = (
    "google_logging_metric.this",
    "google_project_iam_member.builder",
    "google_project_service.required",
    "google_secret_manager_secret.this",
    "google_secret_manager_secret_iam_member.reader",
    "google_service_account.this",
)


def run(settings: Mapping[str, str], console: Console) -> int:
    """Explain, ask, and create."""
    deployment = read_deployment(settings)
    gcloud, terraform = Gcloud(deployment), Terraform(deployment)
    print_text(
        console,
        f"This enables the APIs that Terraform needs in the project {deployment.project}, creates"
        " Pub/Sub's service agent and"
        f" gs://{deployment.state_bucket} in {deployment.region} for Terraform's state, unless it"
        " exists, and shows what Terraform would create of the rest: the other APIs, service"
        " accounts, secrets without values, and metrics.",
    )
    confirm(console, settings, "Begin?")
    gcloud.run("services", "enable", *(f"{api}.googleapis.com" for api in _FIRST_APIS))
    create_service_agents(gcloud)
    _create_state_bucket(deployment, gcloud)
    terraform.init()
    if terraform.is_from_before_the_module():
        raise UsageError(
            "An earlier version has created all of this, and Terraform moves it only as a whole:"
            f" {deployment.instructions.command('deploy')}"
        )
    unread = dict.fromkeys(deployment.secrets, "1")  # no function is created that would read one
    targets = [f"-target=module.dimmy.{resource}" for resource in _FIRST_RESOURCES]
    plan = terraform.plan(package.build(BUILD), unread, *targets)
    refused = "Only the first APIs are enabled, and the service agent and the bucket exist."
    confirm(console, settings, "Create these, too?", refused=refused)
    terraform.apply(plan)
    print_text(console, f"\nNext: {deployment.instructions.command('secrets')}")
    return 0


def _create_state_bucket(deployment: Deployment, gcloud: Gcloud) -> None:
    bucket = f"gs://{deployment.state_bucket}"
    if gcloud.exists("storage", "buckets", "describe", bucket):
        return
    gcloud.run(
        "storage",
        "buckets",
        "create",
        bucket,
        f"--location={deployment.region}",
        "--uniform-bucket-level-access",
        "--public-access-prevention",
    )
    gcloud.run("storage", "buckets", "update", bucket, "--versioning")
