"""Cloud KMS: keys, and which services may encrypt with them."""

from collections.abc import Iterator, Sequence
from typing import Any

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.policies import policy_routes
from sandbox.google_cloud.routes import Route

_KEY = "v1/{name=projects/*/locations/*/keyRings/*/cryptoKeys/*}"
_ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
_FIELDS = {"kmsKeyName", "defaultKmsKeyName"}
# Part of the address of the account with which a service encrypts:
# https://cloud.google.com/kms/docs/compatible-services
_ACCOUNTS = {
    "artifactregistry": "@gcp-sa-artifactregistry.",
    "bigquery": "@bigquery-encryption.",
    "cloudfunctions": "@gcf-admin-robot.",
    "pubsub": "@gcp-sa-pubsub.",
    "secretmanager": "@gcp-sa-secretmanager.",
    "storage": "@gs-project-accounts.",
}


class KeyManagement(Api):
    name = "cloudkms"

    def routes(self) -> Sequence[Route]:
        return [
            Route("GET", _KEY, lambda call: self.resources.get(call["name"])),
            *policy_routes(_KEY, self.project.policies, self.policy_key),
        ]

    def create_key(self, name: str) -> str:
        """Create a key, as somebody has done before the installation."""
        self.resources.create(name, {"name": name, "purpose": "ENCRYPT_DECRYPT"})
        return name

    def check(self, api: str, body: Json) -> None:
        """Raises ApiError (403) if the service of an API may not encrypt with a key in the body."""
        for key in _keys(body):
            members = self.project.policies.members(f"{self.name}/{key}", _ROLE)
            if key not in self.resources or not any(_ACCOUNTS[api] in each for each in members):
                raise ApiError(
                    403,
                    f"Permission denied on Cloud KMS key {key} (or it may not exist). Please ensure"
                    " that the service account of the service has been authorized to use it.",
                )


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (inner for name, inner in value.items() if name in _FIELDS and inner)
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _keys(inner)
