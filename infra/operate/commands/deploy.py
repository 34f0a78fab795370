"""`make deploy`: shows what would change, and changes it after a confirmation."""

from collections.abc import Mapping

from rich.console import Console

from operate.commands.plan import show_plan
from operate.console import confirm, print_text
from operate.google.deployment import read_deployment
from operate.google.terraform import Terraform


def run(settings: Mapping[str, str], console: Console) -> int:
    """Deploy and print the webhook URL."""
    deployment = read_deployment(settings)
    terraform = Terraform(deployment)
    plan = show_plan(deployment, terraform, console)
    confirm(console, settings, "Make these changes?")
    terraform.apply(plan)
    outputs = terraform.outputs()
    print_text(
        console,
        f"\n{deployment.environment} is deployed in {deployment.project}. The webhook URL:\n\n"
        f"    {outputs['webhook_url']}\n\n"
        "If it is not in Dimmy's dashboard yet, three steps are left there:\n"
        "  1. Account & Limits, Webhooks, Add Endpoint: paste the URL.\n"
        "  2. Subscribe it to items.scanned, and create it.\n"
        "  3. Reveal its signing secret, and enter it with:"
        f" {deployment.instructions.command('secrets')}\n"
        "     Then deploy once more, and scan.",
    )
    if address := outputs.get("load_balancer_address"):
        print_text(console, f"Set the domain's A record to {address}.")
    return 0
