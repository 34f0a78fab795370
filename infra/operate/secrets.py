"""`make secrets`: add a version to the secrets, after a look at the form of their values.

On a terminal it asks, without showing what is typed; Enter leaves a secret as it is. Otherwise it
reads lines such as `SIGNING_SECRETS=whsec_...` and `DIMMY_API_KEY=...` from standard input. Values
go from here to Secret Manager and nowhere else: not to a command line, a file, a log or Terraform.
"""

import base64
import getpass
import os
import sys
from collections.abc import Callable, Mapping

from dotenv import dotenv_values
from rich.console import Console

from operate.cloud import Cloud, Installation, read_installation
from operate.console import UsageError, run
from pipeline.dimmy.settings import parse_api_key
from pipeline.receive.settings import parse_signing_secrets

_MEANINGS: dict[str, tuple[str, str, Callable[[str], object]]] = {
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


def main() -> int:
    return run(_secrets)


def _secrets(console: Console) -> int:
    where = read_installation(os.environ)
    cloud = Cloud(where)
    values = _ask(console, where) if sys.stdin.isatty() else _read()
    if not values:
        raise UsageError(
            "No value was given, so nothing was changed. Lines such as SIGNING_SECRETS=whsec_..."
            " and DIMMY_API_KEY=... are read from standard input where there is no terminal."
        )
    console.print(
        f"New versions of the secrets of {where.environment} in {where.project}:", markup=False
    )
    for name, value in (values | _placeholders(cloud, values, console)).items():
        secret_id = where.secrets[name]
        added = cloud.gcloud(
            "secrets",
            "versions",
            "add",
            secret_id,
            "--data-file=-",
            "--format=value(name.basename())",
            given=value.encode(),
        )
        console.print(f"  {secret_id}: version {added.strip()}", markup=False)
    console.print(
        "The functions read it once they are deployed anew: make deploy"
        f" ENV={where.environment} PROJECT={where.project}",
        markup=False,
    )
    return 0


def _placeholders(cloud: Cloud, values: Mapping[str, str], console: Console) -> dict[str, str]:
    """A signing secret that nobody knows, where there is none yet.

    The dashboard shows an endpoint's secret once the endpoint has a URL, which it has once receive
    is deployed, which needs a secret.
    """
    if "signing_secrets" in values or cloud.newest_version("signing_secrets"):
        return {}
    console.print(
        "There is no signing secret yet, so a random one is stored: receive can be deployed, and"
        " refuses every request until it gets that of the endpoint.",
        markup=False,
        soft_wrap=True,
    )
    return {"signing_secrets": "whsec_" + base64.b64encode(os.urandom(24)).decode()}


def _ask(console: Console, where: Installation) -> dict[str, str]:
    console.print(
        f"A new version of each secret of {where.environment} in {where.project} that you give a"
        " value here. What you type is not shown; Enter leaves a secret as it is.",
        markup=False,
        soft_wrap=True,
    )
    values = {}
    for name, (variable, meaning, parse) in _MEANINGS.items():
        while value := getpass.getpass(f"{meaning}: ").strip():
            try:
                parse(value)
            except ValueError as error:
                console.print(f"{variable} {error}.", style="red", markup=False)
            else:
                values[name] = value
                break
    return values


def _read() -> dict[str, str]:
    given = dotenv_values(stream=sys.stdin, interpolate=False)
    problems, values = [], {}
    for name, (variable, _, parse) in _MEANINGS.items():
        if value := (given.get(variable) or "").strip():
            try:
                parse(value)
            except ValueError as error:
                problems.append(f"{variable} {error}.")
            values[name] = value
    if problems:
        raise UsageError("\n".join([*problems, "Nothing was changed."]))
    return values


if __name__ == "__main__":
    sys.exit(main())
