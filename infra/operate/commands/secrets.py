"""`make secrets`: stores new versions of the secrets, after a check of their format.

On a terminal it asks, without showing what is typed; Enter leaves a secret as it is. Otherwise it
reads lines such as `SIGNING_SECRETS=whsec_...` and `DIMMY_API_KEY=...` from standard input. Values
go to Secret Manager and nowhere else: not to a command line, a file, a log or Terraform.
"""

import base64
import os
import sys
from collections.abc import Callable, Mapping

from dotenv import dotenv_values
from rich.console import Console

from operate.console import UsageError, ask_unseen, print_text
from operate.google.deployment import Deployment, read_deployment
from operate.google.gcloud import Gcloud
from pipeline.dimmy.settings import parse_api_key
from pipeline.receive.settings import parse_signing_secrets

# By name of the secret: the setting, what to ask for, the check of the format.
_SECRETS: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "signing_secrets": (
        "SIGNING_SECRETS",
        "Signing secret of the endpoint, whsec_... (several: with spaces)",
        parse_signing_secrets,
    ),
    "api_key": (
        "DIMMY_API_KEY",
        "API key, from Account & Limits in the Dimmy web app",
        parse_api_key,
    ),
}


def run(settings: Mapping[str, str], console: Console) -> int:
    """Read the values, check them, store them."""
    deployment = read_deployment(settings)
    gcloud = Gcloud(deployment)
    newest = {name: gcloud.newest_secret_version(name) for name in deployment.secrets}
    values = _ask(console, deployment) if sys.stdin.isatty() else _read_lines()
    if not values:
        raise UsageError(
            "No value was given, so nothing was changed. Lines such as SIGNING_SECRETS=whsec_..."
            " and DIMMY_API_KEY=... are read from standard input where there is no terminal."
        )
    print_text(
        console,
        f"New versions of the secrets of {deployment.environment} in {deployment.project}:",
    )
    if "signing_secrets" not in values and newest["signing_secrets"] is None:
        values["signing_secrets"] = _make_placeholder(console)
    for name, value in values.items():
        version = gcloud.add_secret_version(name, value)
        print_text(console, f"  {deployment.secrets[name]}: version {version}")
    print_text(
        console,
        "The functions read them after the next deployment"
        f" ({deployment.instructions.command('deploy')}), or at once, where something is deployed:"
        f" {deployment.instructions.command('rotate')}",
    )
    return 0


def _make_placeholder(console: Console) -> str:
    """A random signing secret.

    The dashboard shows the signing secret of an endpoint once the endpoint has a URL, which it has
    once `receive` is deployed, which needs a signing secret.
    """
    print_text(
        console,
        "There is no signing secret yet, so a random one is stored: receive can be deployed, and"
        " refuses every request until it gets the endpoint's secret.",
    )
    return "whsec_" + base64.b64encode(os.urandom(24)).decode()


def _ask(console: Console, deployment: Deployment) -> dict[str, str]:
    print_text(
        console,
        f"A new version of each secret of {deployment.environment} in {deployment.project} that you"
        " enter a value for. What you type is not shown; Enter leaves a secret as it is.",
    )
    values = {}
    for name, (setting, question, parse) in _SECRETS.items():
        while value := ask_unseen(question):
            try:
                parse(value)
            except ValueError as error:
                console.print(f"{setting} {error}.", style="red", markup=False)
            else:
                values[name] = value
                break
    return values


def _read_lines() -> dict[str, str]:
    given = dotenv_values(stream=sys.stdin, interpolate=False)
    problems, values = [], {}
    for name, (setting, _, parse) in _SECRETS.items():
        if value := (given.get(setting) or "").strip():
            try:
                parse(value)
            except ValueError as error:
                problems.append(f"{setting} {error}.")
            values[name] = value
    if problems:
        raise UsageError("\n".join([*problems, "Nothing was changed."]))
    return values
