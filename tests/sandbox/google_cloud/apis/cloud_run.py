"""Cloud Run: the services of functions, and who may invoke them."""

from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import ApiError
from sandbox.google_cloud.policies import policy_routes
from sandbox.google_cloud.routes import Route

_SERVICE = "{name=projects/*/locations/*/services/*}"


class CloudRun(Api):
    name = "run"

    def routes(self) -> Sequence[Route]:
        return [
            Route("GET", f"v2/{_SERVICE}", lambda call: self.resources.get(call["name"])),
            *policy_routes(f"v1/{_SERVICE}", self.project.policies, self.policy_key),
            *policy_routes(f"v2/{_SERVICE}", self.project.policies, self.policy_key),
        ]

    def missing_error(self, name: str) -> ApiError:
        _, project, _, region, _, service = name.split("/")
        return ApiError(
            404,
            f"Resource '{service}' of kind 'SERVICE' in region '{region}' in project '{project}'"
            " does not exist.",
        )
