"""Service Usage: which APIs are enabled, and Google's own accounts for them."""

from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.project import SERVICES
from sandbox.google_cloud.routes import Call, Route

_DOMAIN = ".googleapis.com"
# https://cloud.google.com/iam/docs/service-agents; those of the others are named after the API
_AGENTS = {"cloudfunctions": "gcf-admin-robot", "run": "serverless-robot-prod"}


class ServiceUsage(Api):
    name = "serviceusage"

    def routes(self) -> Sequence[Route]:
        service, project = "{name=projects/*/services/*}", "{parent=projects/*}"
        return [
            Route("POST", f"v1/{service}:enable", self._enable),
            Route("POST", f"v1/{service}:disable", self._disable),
            Route("POST", f"v1/{project}/services:batchEnable", self._enable_several),
            Route("GET", f"v1/{project}/services:batchGet", self._read_several),
            Route("GET", f"v1/{service}", self._read),
            Route("GET", f"v1/{project}/services", self._list),
            Route("GET", "v1/{name=operations/*}", self._operation),
            Route("POST", f"v1beta1/{service}:generateServiceIdentity", self._create_agent),
        ]

    def _enable(self, call: Call) -> Json:
        self.project.enable(_api(call["name"]))
        return self.project.operations.start("", {"service": self._describe(_api(call["name"]))})

    def _enable_several(self, call: Call) -> Json:
        apis = [_api(service) for service in call.body.get("serviceIds", [])]
        self.project.enable(*apis)
        return self.project.operations.start("", {"services": [self._describe(a) for a in apis]})

    def _disable(self, call: Call) -> Json:
        self.project.disable(_api(call["name"]))
        return self.project.operations.start("", {"service": self._describe(_api(call["name"]))})

    def _read(self, call: Call) -> Json:
        return self._describe(_api(call["name"]))

    def _read_several(self, call: Call) -> Json:
        return {"services": [self._describe(_api(name)) for name in call.repeated("names")]}

    def _list(self, call: Call) -> Json:
        only = call.query.get("filter", "").partition(":")[2]
        described = [self._describe(api) for api in sorted(SERVICES)]
        return {"services": [each for each in described if only in {"", each["state"]}]}

    def _operation(self, call: Call) -> Json:
        return self.project.operations.read(call["name"])

    def _create_agent(self, call: Call) -> Json:
        api = _api(call["name"])
        email = self.project.create_agent(_AGENTS.get(api, f"gcp-sa-{api}"))
        return self.project.operations.start("", {"email": email, "uniqueId": "1000000001"})

    def _describe(self, api: str) -> Json:
        return {
            "name": f"projects/{self.project.number}/services/{api}{_DOMAIN}",
            "parent": f"projects/{self.project.number}",
            "config": {"name": f"{api}{_DOMAIN}", "title": SERVICES[api]},
            "state": "ENABLED" if api in self.project.enabled else "DISABLED",
        }


def _api(service: str) -> str:
    """The API that a service such as `projects/p/services/pubsub.googleapis.com` is."""
    api = service.rpartition("/")[2].removesuffix(_DOMAIN)
    if api not in SERVICES:
        raise ApiError(403, f"Not found or permission denied for service(s): {api}{_DOMAIN}.")
    return api
