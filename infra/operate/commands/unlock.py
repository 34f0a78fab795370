"""`make unlock`: removes the lock that a killed command has left on Terraform's state."""

import json
from collections.abc import Mapping

from rich.console import Console

from operate.console import CommandError, confirm, print_text
from operate.google.deployment import read_deployment
from operate.google.gcloud import Gcloud
from operate.google.terraform import Terraform


def run(settings: Mapping[str, str], console: Console) -> int:
    """Show the lock, ask, and remove it."""
    deployment = read_deployment(settings)
    gcloud = Gcloud(deployment)
    terraform = Terraform(gcloud)
    terraform.init()
    lock = _read_lock(gcloud, terraform.lock_url)
    if lock is None:
        print_text(console, "The state is not locked.")
        return 0
    print_text(
        console,
        f"The state is locked by {lock.get('Who')} since {lock.get('Created')}"
        f" ({lock.get('Operation')}). If that command is still running, removing its lock may lose"
        " what it writes to the state.",
    )
    confirm(console, settings, "Has that command ended?")
    terraform.unlock(str(lock["ID"]))
    plan = deployment.instructions.command("plan")
    print_text(console, f"The lock is removed. {plan} shows what that command has left undone.")
    return 0


def _read_lock(gcloud: Gcloud, url: str) -> dict[str, object] | None:
    """The content of the lock's object, with its generation, which is Terraform's id of it."""
    if not gcloud.exists("storage", "objects", "describe", url):
        return None
    generation = gcloud.run("storage", "objects", "describe", url, "--format=value(generation)")
    try:
        lock: dict[str, object] = json.loads(gcloud.run("storage", "cat", url))
    except json.JSONDecodeError as error:
        raise CommandError(f"{url} is not a lock of Terraform's: {error}") from error
    return lock | {"ID": generation.strip()}
