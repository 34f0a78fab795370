"""Resource Manager: the project, its IAM policy, and the effective policies of its organisation."""

from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import Json
from sandbox.google_cloud.policies import policy_routes
from sandbox.google_cloud.routes import Call, Route

_CREATED = "2026-01-01T00:00:00Z"


class ResourceManager(Api):
    name = "cloudresourcemanager"

    def routes(self) -> Sequence[Route]:
        policies = self.project.policies
        return [
            Route("GET", "v1/{name=projects/*}", self._read_v1),
            Route("GET", "v3/{name=projects/*}", self._read_v3),
            Route("POST", "v1/{name=projects/*}:getEffectiveOrgPolicy", self._effective_policy),
            *policy_routes("v1/{name=projects/*}", policies, self.policy_key),
            *policy_routes("v3/{name=projects/*}", policies, self.policy_key),
        ]

    def policy_key(self, name: str) -> str:
        return f"{self.name}/{name}"

    def _read_v1(self, _: Call) -> Json:
        return {
            "projectId": self.project.id,
            "projectNumber": self.project.number,
            "name": self.project.id,
            "lifecycleState": "ACTIVE",
            "createTime": _CREATED,
            "parent": {"type": "organization", "id": "1"},
        }

    def _read_v3(self, _: Call) -> Json:
        return {
            "projectId": self.project.id,
            "name": f"projects/{self.project.number}",
            "displayName": self.project.id,
            "state": "ACTIVE",
            "createTime": _CREATED,
            "parent": "organizations/1",
        }

    def _effective_policy(self, call: Call) -> Json:
        return self.project.effective_organisation_policy(call.body.get("constraint", ""))
