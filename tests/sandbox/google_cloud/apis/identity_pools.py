"""IAM: workload identity pools and their providers."""

from collections.abc import Sequence

from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.project import Project
from sandbox.google_cloud.resources import Resources
from sandbox.google_cloud.routes import Call, Route

_POOLS = "v1/{parent=projects/*/locations/*}/workloadIdentityPools"
_POOL = "v1/{name=projects/*/locations/*/workloadIdentityPools/*}"
_PROVIDERS = "v1/{parent=projects/*/locations/*/workloadIdentityPools/*}/providers"
_PROVIDER = "v1/{name=projects/*/locations/*/workloadIdentityPools/*/providers/*}"


class IdentityPools:
    """What is deleted keeps its name for 30 days, and can be brought back."""

    def __init__(self, project: Project, resources: Resources) -> None:
        self._project = project
        self._resources = resources

    def routes(self) -> Sequence[Route]:
        within = [
            route
            for one in (_POOL, _PROVIDER)
            for route in (
                Route("GET", one, lambda call: self._resources.get(call["name"])),
                Route("PATCH", one, self._update),
                Route("DELETE", one, self._delete),
                Route("POST", f"{one}:undelete", self._undelete),
                Route("GET", f"{one}/operations/{{id}}", self._operation),
            )
        ]
        return [
            Route("POST", _POOLS, lambda call: self._create(call, "workloadIdentityPool")),
            Route(
                "POST", _PROVIDERS, lambda call: self._create(call, "workloadIdentityPoolProvider")
            ),
            Route("GET", f"{_POOL}:listAttestationRules", lambda _: {}),
            *within,
        ]

    def _create(self, call: Call, kind: str) -> Json:
        collection = {"workloadIdentityPool": "workloadIdentityPools"}.get(kind, "providers")
        name = f"{call['parent']}/{collection}/{call.query[f'{kind}Id']}"
        if name in self._resources:
            raise ApiError(409, "Requested entity already exists")
        created = self._resources.create(name, call.body | {"name": name, "state": "ACTIVE"})
        return self._start(name, created)

    def _update(self, call: Call) -> Json:
        changed = self._resources.patch(call["name"], call.body, call.update_mask)
        return self._start(call["name"], changed)

    def _delete(self, call: Call) -> Json:
        return self._set_state(call, "DELETED")

    def _undelete(self, call: Call) -> Json:
        return self._set_state(call, "ACTIVE")

    def _set_state(self, call: Call, state: str) -> Json:
        resource = self._resources.get(call["name"])
        resource["state"] = state
        return self._start(call["name"], resource)

    def _start(self, name: str, response: Json) -> Json:
        return self._project.operations.start(name, response)

    def _operation(self, call: Call) -> Json:
        return self._project.operations.read(f"{call['name']}/operations/{call['id']}")
