"""What Google and Terraform refuse, recognised by their texts, and what to do then."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from operate.console import CommandError
from operate.google.deployment import Deployment
from operate.google.programs import ProgramError

T = TypeVar("T")

_LONGEST_WAIT_SECONDS = 720.0  # Google names up to ten minutes, for a metric
_PAUSE_SECONDS = 10.0

# "Pub/Sub API has not been used in project 1 before or it is disabled. Enable it by visiting ...
# If you enabled this API recently, wait a few minutes"
_ENABLING = re.compile(
    r"([A-Z][\w/() ]*? API) has not been used in project \S+ before or it is disabled"
)
# Pub/Sub refuses a BigQuery subscription until it knows the role that its agent has just got
# (https://github.com/hashicorp/terraform-provider-google/issues/19085). If the caller's own
# account lacks a permission, it writes instead: "User not authorized to perform this action."
_FRESH_GRANT = re.compile(
    r"Error creating Subscription: googleapi: Error 403: The caller does not have permission"
    r".*with \S*google_pubsub_subscription\.bigquery\[",
    re.DOTALL,
)
# The log-based metric of an alert. The text changed in 2026:
# https://github.com/hashicorp/terraform-provider-google/issues/11102
_FRESH_METRIC = re.compile(
    r"Cannot find metric(?:\(s\))? that match(?:es)? type ="
    r" \"logging\.googleapis\.com/user/(dimmy-[^\"]+)"
)
# An account that a role is granted to, one of ours or a service agent: creation is eventually
# consistent, according to the provider's documentation of google_service_account.
_FRESH_ACCOUNT = re.compile(
    r"Service account ((?:dimmy|service)-[^@\s]+@[^.\s]+)\S* does not exist"
)
# The agent of Cloud Functions does not have its role in a new project yet
# (https://github.com/firebase/firebase-tools/issues/5244).
_FRESH_AGENT = re.compile(r"Unable to retrieve the repository metadata")
_ERROR = re.compile(r"^[\s│╷╵]*Error: ", re.MULTILINE)  # how each error of Terraform's begins

# https://cloud.google.com/resource-manager/docs/organization-policy/restricting-domains
_FOREIGN_MEMBER = re.compile(r"do(es)? not belong to a permitted customer|allowedPolicyMember")

# https://developer.hashicorp.com/terraform/language/state/locking
_LOCKED = re.compile(r"Error acquiring the state lock.*Lock Info:", re.DOTALL)
_LOCK_FIELD = r"^[\s│╷╵]*{}:\s*(.+?)\s*$"

# Terraform's GCS backend, in its own words and in those of Cloud Storage.
_NO_STATE = re.compile(
    r"querying Cloud Storage failed:.*?(bucket doesn't exist|specified bucket does not exist)",
    re.DOTALL,
)


def is_state_missing(output: str) -> bool:
    """Whether the bucket of Terraform's state does not exist."""
    return bool(_NO_STATE.search(output))


def advice(output: str, deployment: Deployment) -> str:
    """What to do about the errors in this text; empty if nothing is known about them."""
    if _LOCKED.search(output):
        return _advice_about_lock(output, deployment)
    if _FOREIGN_MEMBER.search(output):
        return advice_about_public_invoker(deployment)
    return ""


def advice_about_public_invoker(deployment: Deployment) -> str:
    """The two ways to make `receive` public where an organisation refuses `allUsers`."""
    instructions, project = deployment.instructions, deployment.project
    return (
        "The organisation forbids members from outside its domains, so allUsers cannot get the role"
        " run.invoker on receive, which Svix calls unauthenticated. Either switch off the check of"
        " the invoker, on this one service:\n"
        f"  1. Set public_invoker = false in {instructions.settings_file}, and"
        f" {instructions.command('deploy')}.\n"
        f"  2. gcloud run services update {deployment.prefix}-receive --no-invoker-iam-check"
        f" --region={deployment.region} --project={project}\n"
        "Or an administrator of the organisation exempts the project, and you deploy again:\n"
        f"     gcloud org-policies reset iam.allowedPolicyMemberDomains --project={project}\n"
        "infra/README.md (In a strict organisation) shows how to exempt only the service."
    )


def is_api_disabled(error: CommandError) -> bool:
    """Whether Google answers that an API is not enabled."""
    return all(_ENABLING.search(each) for each in _errors(error))


def wait_while_enabling(
    console: Console, settings: Mapping[str, str], action: Callable[[], T]
) -> T:
    """Repeat an action while Google does not know yet what has just been enabled or created.

    Google needs some minutes to make an API or a metric known everywhere, and about one for a role
    or an account.

    Raises:
        CommandError: there is another error, too, or Google still does not know after 12 minutes.
    """
    pause_seconds = float(settings.get("PAUSE_SECONDS") or _PAUSE_SECONDS)
    give_up = 0.0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    while True:
        try:
            return action()
        except CommandError as error:
            reasons = [_reason_to_wait(each) for each in _errors(error)]
            give_up = give_up or time.monotonic() + _LONGEST_WAIT_SECONDS
            if not all(reasons) or time.monotonic() > give_up:
                raise
            # Only a terminal can erase it afterwards.
            with Progress(*columns, console=console, transient=console.is_terminal) as progress:
                progress.add_task(reasons[0])
                time.sleep(pause_seconds)


def apply_while_enabling(
    console: Console,
    settings: Mapping[str, str],
    apply: Callable[[Path], None],
    plan: Path,
    plan_again: Callable[[], Path],
) -> None:
    """Apply a plan; while Google refuses what it does not know yet, plan and apply the rest.

    Raises:
        CommandError: as `wait_while_enabling`.
    """

    def plans() -> Iterator[Path]:
        yield plan
        while True:
            yield plan_again()

    remaining = plans()
    wait_while_enabling(console, settings, lambda: apply(next(remaining)))


def _errors(error: CommandError) -> list[str]:
    """The texts of the errors that a program printed."""
    output = error.output if isinstance(error, ProgramError) else str(error)
    return _ERROR.split(output)[1:] or [output]


def _reason_to_wait(error: str) -> str:
    """What Google does not know yet; empty for an error that waiting does not solve."""
    if api := _ENABLING.search(error):
        return f"Google is still enabling the {api[1]}; this takes minutes"
    if metric := _FRESH_METRIC.search(error):
        return f"Cloud Monitoring does not know the new metric {metric[1]} yet; this takes minutes"
    if account := _FRESH_ACCOUNT.search(error):
        return f"Google does not know the new account {account[1]} yet; this takes a minute"
    if _FRESH_AGENT.search(error):
        return "Cloud Functions does not have its role in this project yet; this takes minutes"
    if _FRESH_GRANT.search(error):
        return "Pub/Sub does not know its role on the BigQuery dataset yet; this takes a minute"
    return ""


def _advice_about_lock(output: str, deployment: Deployment) -> str:
    fields = {
        name: re.search(_LOCK_FIELD.format(name), output, re.MULTILINE)
        for name in ("Operation", "Who", "Created")
    }
    shown = {name: found[1] if found else "unknown" for name, found in fields.items()}
    return (
        f"The state is locked by {shown['Who']} since {shown['Created']} ({shown['Operation']}). If"
        " that command is still running, wait for it. If it was killed:"
        f" {deployment.instructions.command('unlock')}"
    )
