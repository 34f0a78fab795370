"""Secret Manager: secrets and their versions."""

import base64
from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.checksums import crc32c
from sandbox.google_cloud.errors import ApiError, Json, failed_precondition
from sandbox.google_cloud.policies import policy_routes
from sandbox.google_cloud.project import Project
from sandbox.google_cloud.resources import now
from sandbox.google_cloud.routes import Call, Route

_SECRET = "v1/{name=projects/*/secrets/*}"
_VERSION = "v1/{name=projects/*/secrets/*/versions/*}"


class SecretManager(Api):
    """Answers have the project's number in names, as Google's do."""

    name = "secretmanager"

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self._payloads: dict[str, bytes] = {}

    def routes(self) -> Sequence[Route]:
        return [
            Route("POST", "v1/{parent=projects/*}/secrets", self._create),
            Route("GET", "v1/{parent=projects/*}/secrets", self._list),
            Route("GET", _SECRET, lambda call: self._shown(self.resources.get(call["name"]))),
            Route("PATCH", _SECRET, self._update),
            Route("DELETE", _SECRET, self._delete),
            Route("POST", f"{_SECRET}:addVersion", self._add_version),
            Route("GET", f"{_SECRET}/versions", self._list_versions),
            Route("GET", _VERSION, lambda call: self._shown(self.version(call["name"]))),
            Route("GET", f"{_VERSION}:access", self._access),
            Route("POST", f"{_VERSION}:enable", lambda call: self._set(call, "ENABLED")),
            Route("POST", f"{_VERSION}:disable", lambda call: self._set(call, "DISABLED")),
            Route("POST", f"{_VERSION}:destroy", lambda call: self._set(call, "DESTROYED")),
            *policy_routes(_SECRET, self.project.policies, self.policy_key),
        ]

    def add_version(self, secret: str, value: bytes) -> Json:
        """Add a version of a secret, named by its id or in full."""
        name = secret if "/" in secret else f"{self.project.name}/secrets/{secret}"
        self.resources.get(name)
        number = len(self.resources.below(f"{name}/versions")) + 1
        version = f"{name}/versions/{number}"
        self._payloads[version] = value
        return self.resources.create(
            version, {"name": version, "state": "ENABLED", "createTime": now(), "etag": "etag"}
        )

    def versions(self, secret_id: str) -> list[Json]:
        """The versions of a secret, oldest first."""
        return self.resources.below(f"{self.project.name}/secrets/{secret_id}/versions")

    def values(self, secret_id: str) -> list[str]:
        """The values of the versions of a secret, oldest first."""
        return [self._payloads[version["name"]].decode() for version in self.versions(secret_id)]

    def version(self, name: str) -> Json:
        """A version by its full name, which may end with `latest`. Raises ApiError (404)."""
        if not name.endswith("/latest"):
            return self.resources.get(name)
        secret = name.removesuffix("/versions/latest")
        versions = self.resources.below(f"{secret}/versions")
        if not versions:
            raise ApiError(404, f"Secret [{self._numbered(secret)}] not found or has no versions.")
        return versions[-1]

    def missing_error(self, name: str) -> ApiError:
        kind = "Secret Version" if "/versions/" in name else "Secret"
        return ApiError(404, f"{kind} [{self._numbered(name)}] not found.")

    def taken_error(self, name: str) -> ApiError:
        return ApiError(409, f"Secret [{self._numbered(name)}] already exists.")

    def _create(self, call: Call) -> Json:
        replication = call.body.get("replication", {})
        replicas = replication.get("userManaged", {}).get("replicas", [])
        for location in [replica["location"] for replica in replicas] or ["global"]:
            if not self.project.allows_location(location):
                raise failed_precondition(
                    "Constraint constraints/gcp.resourceLocations violated for"
                    f" [orgpolicy:projects/{self.project.number}] attempting to create a secret in"
                    f" [{location}]. For more information, see https://cloud.google.com/"
                    "resource-manager/docs/organization-policy/defining-locations."
                )
        name = f"{call['parent']}/secrets/{call.query['secretId']}"
        secret = call.body | {"name": name, "createTime": now(), "etag": "etag"}
        return self._shown(self.resources.create(name, secret))

    def _list(self, call: Call) -> Json:
        return {
            "secrets": [self._shown(s) for s in self.resources.below(f"{call['parent']}/secrets")]
        }

    def _update(self, call: Call) -> Json:
        return self._shown(self.resources.patch(call["name"], call.body, call.update_mask))

    def _delete(self, call: Call) -> Json:
        self.delete(call["name"])
        return {}

    def _add_version(self, call: Call) -> Json:
        payload = call.body.get("payload", {})
        value = base64.b64decode(payload.get("data", ""))
        checksum = payload.get("dataCrc32c")
        if checksum is not None and int(checksum) != crc32c(value):
            raise ApiError(400, "The payload does not match its checksum.")
        version = self.add_version(call["name"], value)
        version["clientSpecifiedPayloadChecksum"] = checksum is not None
        return self._shown(version)

    def _list_versions(self, call: Call) -> Json:
        self.resources.get(call["name"])
        state = call.query.get("filter", "").replace("=", ":").rpartition(":")[2]
        versions = self.resources.below(f"{call['name']}/versions")
        shown = [self._shown(v) for v in reversed(versions) if state in {"", v["state"]}]
        return {"versions": shown, "totalSize": len(shown)}

    def _access(self, call: Call) -> Json:
        version = self.version(call["name"])
        if version["state"] != "ENABLED":
            name = self._numbered(version["name"])
            raise failed_precondition(f"Secret Version [{name}] is in {version['state']} state.")
        value = self._payloads[version["name"]]
        payload = {"data": base64.b64encode(value).decode(), "dataCrc32c": str(crc32c(value))}
        return {"name": self._numbered(version["name"]), "payload": payload}

    def _set(self, call: Call, state: str) -> Json:
        version = self.version(call["name"])
        version["state"] = state
        return self._shown(version)

    def _shown(self, resource: Json) -> Json:
        return resource | {"name": self._numbered(resource["name"])}

    def _numbered(self, name: str) -> str:
        return name.replace(f"projects/{self.project.id}/", f"projects/{self.project.number}/")
