"""`make bootstrap`: creates what the first deployment needs.

A bucket for Terraform's state, the APIs, Google's service agents, and the secrets, which are empty
at first: a function does not deploy while a secret of it has no version. It can be repeated: what
exists stays as it is.
"""

from collections import Counter
from collections.abc import Mapping

from rich.console import Console

from operate.commands import package
from operate.console import UsageError, confirm, count_of, print_text
from operate.google.deployment import BUILD, Deployment, read_deployment
from operate.google.gcloud import Gcloud
from operate.google.refusals import apply_while_enabling, wait_while_enabling
from operate.google.service_agents import apis_of_agents, create_service_agents
from operate.google.terraform import Change, Terraform

# Those that gcloud and Terraform themselves need, and those of the service agents; Terraform
# enables the others.
_FIRST_APIS = ("cloudresourcemanager", "iam", "secretmanager", "serviceusage", "storage")

# Google takes some minutes to make these known everywhere: accounts and their roles, on which
# builds and functions depend, and metrics, on which alerts depend.
_FIRST_RESOURCES = (
    "google_artifact_registry_repository_iam_member.builder_writes_images",
    "google_kms_crypto_key_iam_member.agent",
    "google_logging_metric.this",
    "google_project_iam_member.builder",
    "google_project_service.required",
    "google_secret_manager_secret.this",
    "google_secret_manager_secret_iam_member.reader",
    "google_service_account.this",
    "google_storage_bucket_iam_member.builder_reads_sources",
)

_TARGETS = [f"-target=module.dimmy.{resource}" for resource in _FIRST_RESOURCES]

# How a person calls the types of these resources.
_NOUNS = {
    "google_artifact_registry_repository": "registry",
    "google_logging_metric": "metric",
    "google_project_service": "API",
    "google_secret_manager_secret": "empty secret",
    "google_service_account": "service account",
    "google_storage_bucket": "bucket",
}


def run(settings: Mapping[str, str], console: Console) -> int:
    """Explain, ask, and create."""
    deployment = read_deployment(settings)
    gcloud = Gcloud(deployment)
    terraform = Terraform(gcloud)
    gcloud.check_sign_in()
    print_text(
        console,
        f"This enables the APIs that Terraform needs in the project {deployment.project}, creates"
        " the service agents that roles are granted to, and"
        f" gs://{deployment.state_bucket} in {deployment.region} for Terraform's state, unless it"
        " exists, and shows what Terraform would create of the rest: the other APIs, service"
        " accounts, secrets without values, and metrics.",
    )
    confirm(console, settings, "Begin?")
    apis = sorted({*_FIRST_APIS, *apis_of_agents(deployment)})
    gcloud.run("services", "enable", *(f"{api}.googleapis.com" for api in apis))
    wait_while_enabling(console, settings, lambda: create_service_agents(gcloud))
    wait_while_enabling(console, settings, lambda: _create_state_bucket(deployment, gcloud))
    terraform.init()
    if terraform.is_from_before_the_module():
        raise UsageError(
            "An earlier version has created all of this, and Terraform moves it only as a whole:"
            f" {deployment.instructions.command('deploy')}"
        )
    archive = package.build(BUILD)
    # No function is created that would read a secret.
    unread = {"secret_versions": dict.fromkeys(deployment.secrets, "1")}
    plan = wait_while_enabling(
        console, settings, lambda: terraform.plan(archive, unread, *_TARGETS, shown=False)
    )
    changes = terraform.changes(plan)
    if other := [each["address"] for each in changes if each["change"]["actions"] != ["create"]]:
        raise UsageError(
            f"This would also change what exists: {', '.join(other)}. Deploy instead, which shows"
            f" the changes: {deployment.instructions.command('deploy')}"
        )
    if changes:
        print_text(console, f"Terraform would create: {_summary(changes)}.")
        refused = "Only the first APIs are enabled, and the service agents and the bucket exist."
        confirm(console, settings, "Create these, too?", refused=refused)
        apply_while_enabling(
            console,
            settings,
            lambda plan: terraform.apply_quietly(plan, console, "created"),
            plan,
            lambda: terraform.plan_rest(changes, archive, unread, *_TARGETS, shown=False),
        )
    print_text(console, f"Done. Next: {deployment.instructions.command('secrets')}")
    return 0


def _summary(changes: list[Change]) -> str:
    """The numbers of resources by type, and that of the roles that are granted."""
    counts = Counter(_NOUNS.get(each["type"], "") for each in changes)
    roles = counts.pop("", 0)
    nouns = [count_of(number, noun) for noun, number in sorted(counts.items())]
    return ", ".join([*nouns, count_of(roles, "granted role")] if roles else nouns)


def _create_state_bucket(deployment: Deployment, gcloud: Gcloud) -> None:
    bucket = f"gs://{deployment.state_bucket}"
    if not gcloud.exists("storage", "buckets", "describe", bucket):
        gcloud.run(
            "storage",
            "buckets",
            "create",
            bucket,
            f"--location={deployment.region}",
            "--uniform-bucket-level-access",
            "--public-access-prevention",
        )
    # Always, because the command may have been interrupted between the two.
    gcloud.run("storage", "buckets", "update", bucket, "--versioning")
