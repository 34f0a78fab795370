"""`make deploy`: shows what would change, and changes it after a confirmation."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from operate.commands.plan import show_plan
from operate.console import confirm, print_text
from operate.google.deployment import Deployment, read_deployment
from operate.google.gcloud import Gcloud
from operate.google.refusals import apply_while_enabling
from operate.google.resources import check_invoker
from operate.google.terraform import Terraform


def run(settings: Mapping[str, str], console: Console) -> int:
    """Deploy and print the webhook URL; 1 if Svix may not call it yet."""
    deployment = read_deployment(settings)
    gcloud = Gcloud(deployment)
    terraform = Terraform(gcloud)
    plan = show_plan(gcloud, terraform, console)
    confirm(console, settings, "Make these changes?")
    apply_while_enabling(
        console,
        settings,
        terraform.apply,
        plan.file,
        lambda: terraform.plan_rest(plan.changes, plan.archive, plan.variables),
    )
    outputs = terraform.outputs()
    print_text(
        console,
        f"\n{deployment.environment} is deployed in {deployment.project}. The webhook URL:\n\n"
        f"    {outputs['webhook_url']}\n\n"
        "If it is not in Dimmy's dashboard yet, three steps are left there:\n"
        "  1. Account & Limits, Webhooks, Add Endpoint: paste the URL.\n"
        "  2. Subscribe it to items.scanned, and create it.\n"
        "  3. Reveal its signing secret, enter it, and let receive read it:\n"
        f"     {deployment.instructions.command('secrets')}\n"
        f"     {deployment.instructions.command('rotate')}",
    )
    if not (deployment.variables.get("alert_emails") or deployment.variables.get("alert_channels")):
        print_text(
            console,
            f"Nobody gets alerts: {deployment.instructions.change_setting('alert_emails')}.",
        )
    receive = outputs["functions"]["receive"]
    is_callable = True
    if receive["invoker"] is None:
        check = check_invoker(gcloud, outputs["region"], "receive", receive, "")
        is_callable = not check.remedy
        print_text(console, f"{check.name} {check.result}. {check.remedy}".strip())
    if egress_address := outputs.get("egress_address"):
        print_text(console, f"resolve and reconcile call Dimmy's API from {egress_address}.")
    if outputs.get("load_balancer_address"):
        is_open = "receive_url_open" in plan.variables
        print_text(console, _text_about_domain(deployment, outputs, is_open=is_open))
    return 0 if is_callable else 1


def _text_about_domain(deployment: Deployment, outputs: Mapping[str, Any], *, is_open: bool) -> str:
    records = f"A record to {outputs['load_balancer_address']}"
    if ipv6_address := outputs.get("load_balancer_ipv6_address"):
        records += f", and its AAAA record to {ipv6_address}"
    text = f"Set the domain's {records}."
    if is_open:
        text += (
            " Its certificate is not active yet, which takes up to an hour after that. Until then"
            f" receive's own URL stays open: {outputs['functions']['receive']['url']}\n"
            f"When {deployment.instructions.command('doctor')} says that the certificate is active,"
            f" {deployment.instructions.command('deploy')} closes that URL."
        )
    return text
