"""`make retire`: disables the versions of the secrets that no function reads any more.

A disabled version can be enabled again; nothing is destroyed.
"""

from collections.abc import Mapping

from rich.console import Console

from operate.console import confirm, print_text, show_progress
from operate.google.deployment import read_deployment
from operate.google.gcloud import Gcloud
from operate.google.secret_versions import (
    read_secrets_of_functions,
    read_versions_of_deployment,
)
from operate.google.terraform import Terraform


def run(settings: Mapping[str, str], console: Console) -> int:
    """Show the versions that nothing reads, ask, and disable them."""
    deployment = read_deployment(settings)
    gcloud = Gcloud(deployment)
    outputs = Terraform(gcloud).outputs()
    used = read_versions_of_deployment(gcloud, outputs) | {
        (secret.secret_id, secret.version) for secret in read_secrets_of_functions(gcloud, outputs)
    }
    unread = [
        (secret_id, version)
        for name, secret_id in deployment.secrets.items()
        # The newest one is what the next deployment reads.
        for version in gcloud.enabled_secret_versions(name)[1:]
        if (secret_id, version) not in used
    ]
    if not unread:
        print_text(console, "Every enabled version is the newest one, or is read by a function.")
        return 0
    for secret_id, version in unread:
        print_text(console, f"  {secret_id}, version {version}")
    confirm(console, settings, "Disable these versions, which no function reads?")
    for secret_id, version in show_progress(console, "versions", unread):
        gcloud.run("secrets", "versions", "disable", version, f"--secret={secret_id}")
    print_text(
        console,
        "Done. To enable one again: gcloud secrets versions enable VERSION --secret=SECRET"
        f" --project={deployment.project}",
    )
    return 0
