"""`make rotate`: lets the running functions read the newest secrets, without a build.

`make deploy` does the same and builds the functions again, which takes minutes, and needs Cloud
Build and PyPI.
"""

from collections.abc import Mapping

from rich.console import Console

from operate.console import confirm, print_text, show_progress
from operate.google.deployment import read_deployment
from operate.google.gcloud import Gcloud
from operate.google.secret_versions import read_secrets_of_functions, set_version
from operate.google.terraform import Terraform


def run(settings: Mapping[str, str], console: Console) -> int:
    """Show which functions read an older version, ask, and change that."""
    deployment = read_deployment(settings)
    gcloud = Gcloud(deployment)
    outputs = Terraform(gcloud).outputs()
    newest = {
        secret_id: gcloud.newest_secret_version(name)
        for name, secret_id in deployment.secrets.items()
    }
    changes = [
        (secret, version)
        for secret in read_secrets_of_functions(gcloud, outputs)
        if (version := newest.get(secret.secret_id)) and version != secret.version
    ]
    if not changes:
        print_text(console, "Every function reads the newest version of its secrets.")
        return 0
    for secret, version in changes:
        print_text(
            console,
            f"  {secret.function}: {secret.secret_id}, version {secret.version} becomes {version}",
        )
    confirm(console, settings, "Let the functions read these versions?")
    for secret, version in show_progress(console, "functions", changes):
        set_version(gcloud, outputs["region"], secret, version)
    doctor = deployment.instructions.command("doctor")
    print_text(console, f"Done. {doctor} shows whether the new values work.")
    return 0
