"""`make plan`: shows what a deployment would change."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from operate.commands import package
from operate.console import UsageError, print_text
from operate.google.deployment import BUILD, Deployment, read_deployment
from operate.google.gcloud import Gcloud
from operate.google.load_balancer import is_certificate_active
from operate.google.organization import forbids_public_members
from operate.google.refusals import advice_about_public_invoker
from operate.google.resources import DELETED_TOPIC
from operate.google.terraform import Change, Terraform, protected_deletions


def run(settings: Mapping[str, str], console: Console) -> int:
    """Show the plan."""
    gcloud = Gcloud(read_deployment(settings))
    show_plan(gcloud, Terraform(gcloud), console)
    return 0


@dataclass(frozen=True)
class DeploymentPlan:
    """A plan of Terraform's, and what it was made from."""

    file: Path
    changes: list[Change]
    archive: Path
    variables: Mapping[str, object]


def show_plan(gcloud: Gcloud, terraform: Terraform, console: Console) -> DeploymentPlan:
    """Build the package and print the plan.

    Raises:
        UsageError: a secret has no value, the plan deletes something protected, or the organisation
            forbids what it creates.
    """
    gcloud.check_sign_in()
    archive = package.build(BUILD)
    print_text(console, f"Package: {archive.name}")
    variables: dict[str, object] = {"secret_versions": _secret_versions(gcloud)}
    if _is_url_undecided(gcloud.deployment) and not is_certificate_active(gcloud):
        variables["receive_url_open"] = True
    terraform.init()
    plan = terraform.plan(archive, variables)
    changes = terraform.changes(plan)
    if protected := protected_deletions(changes):
        raise UsageError(_refusal(protected, gcloud.deployment))
    if _makes_receive_public(changes) and forbids_public_members(gcloud):
        advice = advice_about_public_invoker(gcloud.deployment)
        # An exception can be made only for a service that exists.
        if _creates_receive(changes):
            raise UsageError(advice)
        print_text(console, f"Unless the service is exempt: {advice}")
    return DeploymentPlan(plan, changes, archive, variables)


def _is_url_undecided(deployment: Deployment) -> bool:
    """Whether nobody has decided if `receive` stays open beside its load balancer."""
    return bool(deployment.domain) and "receive_url_open" not in deployment.variables


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


def _makes_receive_public(changes: list[Change]) -> bool:
    return any((each["change"].get("after") or {}).get("member") == "allUsers" for each in changes)


def _creates_receive(changes: list[Change]) -> bool:
    return any(
        each["address"].endswith('google_cloudfunctions2_function.this["receive"]')
        and "create" in each["change"]["actions"]
        for each in changes
    )


def _refusal(protected: list[Change], deployment: Deployment) -> str:
    detached = [
        each["change"]["before"]["name"]
        for each in protected
        if each["change"]["before"].get("topic") == DELETED_TOPIC
    ]
    if detached:
        commands = "\n".join(
            f"  gcloud pubsub subscriptions delete {name} --project={deployment.project}"
            for name in detached
        )
        return (
            f"The topic of {', '.join(detached)} has been deleted, so it gets no new messages. A"
            " subscription cannot be moved to another topic, so nothing was changed. It keeps what"
            f" waits in it: when {deployment.instructions.command('status')} shows that no event"
            f" waits, delete it and deploy again:\n{commands}\n"
            "Then store what was scanned since the topic was deleted:"
            f" {deployment.instructions.command('backfill', SINCE='...')}"
        )
    return (
        f"This would delete {', '.join(each['address'] for each in protected)}, which"
        " deletion_protection forbids, so nothing was changed. A setting that cannot be changed in"
        " place, such as the region or a name, has been changed."
    )
