"""Which versions of the secrets the running functions read, and how they get others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operate.console import CommandError
from operate.google.gcloud import Gcloud


@dataclass(frozen=True)
class SecretOfFunction:
    """A secret that a function reads as an environment variable, and the version of it."""

    function: str  # the name of its Cloud Run service
    setting: str
    secret_id: str
    version: str


def read_secrets_of_functions(gcloud: Gcloud, outputs: Mapping[str, Any]) -> list[SecretOfFunction]:
    """What the services of the functions read now.

    Raises:
        CommandError: they cannot be read, one of them reads other secrets than those of the
            deployment, or none of them reads one of these. A function may need no secret.
    """
    known = gcloud.deployment.secrets.values()
    region = outputs["region"]
    found: list[SecretOfFunction] = []
    for function in outputs["functions"].values():
        name = function["name"]
        service = gcloud.read_json("run", "services", "describe", name, f"--region={region}")
        template = service["spec"]["template"]
        aliases = _read_aliases(template.get("metadata", {}).get("annotations", {}))
        read = [
            SecretOfFunction(
                name,
                variable["name"],
                aliases.get(reference["name"], reference["name"]).rpartition("/")[2],
                reference["key"],
            )
            for variable in template["spec"]["containers"][0].get("env", [])
            if (reference := variable.get("valueFrom", {}).get("secretKeyRef"))
        ]
        of_deployment = [secret for secret in read if secret.secret_id in known]
        if read and not of_deployment:
            raise CommandError(f"{name} reads none of {', '.join(known)}: deploy it again.")
        found += of_deployment
    found_ids = {secret.secret_id for secret in found}
    for secret_id in known:
        if secret_id not in found_ids:
            raise CommandError(f"No function reads {secret_id}: deploy again.")
    return found


def _read_aliases(annotations: Mapping[str, str]) -> dict[str, str]:
    """The full names of secrets by their aliases in a service, where it has any.

    Cloud Run calls a secret that was given with its project by an alias:
    https://cloud.google.com/run/docs/configuring/services/secrets
    """
    pairs = annotations.get("run.googleapis.com/secrets", "").split(",")
    return {alias: secret for alias, _, secret in (pair.partition(":") for pair in pairs) if secret}


def read_versions_of_deployment(gcloud: Gcloud, outputs: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The ids and versions that a new instance would read after the next change of a function.

    They differ from those of the services after `make rotate`. Raises CommandError.
    """
    region = outputs["region"]
    found = set()
    for function in outputs["functions"].values():
        described = gcloud.read_json(
            "functions", "describe", function["name"], "--gen2", f"--region={region}"
        )
        config = described.get("serviceConfig", {})
        for variable in config.get("secretEnvironmentVariables", []):
            found.add((variable["secret"], str(variable["version"])))
    return found


def set_version(gcloud: Gcloud, region: str, secret: SecretOfFunction, version: str) -> None:
    """Let a service read another version: a new revision of the same image, without a build."""
    gcloud.run(
        "run",
        "services",
        "update",
        secret.function,
        f"--region={region}",
        f"--update-secrets={secret.setting}={secret.secret_id}:{version}",
    )
