"""Artifact Registry: repositories."""

from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import Json
from sandbox.google_cloud.policies import policy_routes
from sandbox.google_cloud.resources import now
from sandbox.google_cloud.routes import Call, Route

_LOCATION = "v1/{parent=projects/*/locations/*}"
_REPOSITORY = "v1/{name=projects/*/locations/*/repositories/*}"


class ArtifactRegistry(Api):
    name = "artifactregistry"
    taken = "the repository already exists"

    def routes(self) -> Sequence[Route]:
        return [
            Route("POST", f"{_LOCATION}/repositories", self._create),
            Route("GET", _REPOSITORY, lambda call: self.resources.get(call["name"])),
            Route("PATCH", _REPOSITORY, self._update),
            Route("DELETE", _REPOSITORY, self._delete),
            Route("GET", "v1/{name=projects/*/locations/*/operations/*}", self._operation),
            *policy_routes(_REPOSITORY, self.project.policies, self.policy_key),
        ]

    def _create(self, call: Call) -> Json:
        # Google's provider writes the parameter in snake case.
        identity = call.query.get("repositoryId") or call.query["repository_id"]
        name = f"{call['parent']}/repositories/{identity}"
        repository = call.body | {"name": name, "createTime": now(), "updateTime": now()}
        created = self.resources.create(name, repository)
        return self.project.operations.start(call["parent"], created)

    def _update(self, call: Call) -> Json:
        return self.resources.patch(call["name"], call.body, call.update_mask)

    def _delete(self, call: Call) -> Json:
        self.delete(call["name"])
        return self.project.operations.start(call["name"].rpartition("/repositories/")[0])

    def _operation(self, call: Call) -> Json:
        return self.project.operations.read(call["name"])
