"""Cloud Run: the services of functions, and who may invoke them."""

from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.policies import policy_routes
from sandbox.google_cloud.routes import Call, Route

_SERVICE = "{name=projects/*/locations/*/services/*}"
# gcloud uses the API of Knative, whose paths have no region: that is in the host.
_NAMESPACE = "apis/serving.knative.dev/v1/{namespace=namespaces/*}"
_KNATIVE = f"{_NAMESPACE}/services/{{id=*}}"


def knative_service(name: str, environment: list[Json], previous: Json | None = None) -> Json:
    """A service of this name with a container that has these variables, ready to serve."""
    _, project, _, region, _, service_id = name.split("/")
    generation = previous["metadata"]["generation"] + 1 if previous else 1
    annotations = previous["metadata"]["annotations"] if previous else {}
    revision = f"{service_id}-{generation:05}-abc"
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "name": service_id,
            "namespace": project,
            "labels": {"cloud.googleapis.com/location": region},
            "annotations": annotations,
            "generation": generation,
            "resourceVersion": f"v{generation}",
        },
        "spec": {
            "template": {
                "metadata": {"name": revision, "annotations": {}},
                "spec": {"containers": [{"image": "functions", "env": environment}]},
            },
            "traffic": [{"latestRevision": True, "percent": 100}],
        },
        "status": {
            "observedGeneration": generation,
            "latestCreatedRevisionName": revision,
            "latestReadyRevisionName": revision,
            "conditions": [
                {"type": kind, "status": "True"}
                for kind in ("Ready", "ConfigurationsReady", "RoutesReady")
            ],
            "traffic": [{"revisionName": revision, "latestRevision": True, "percent": 100}],
        },
    }


class CloudRun(Api):
    name = "run"

    def routes(self) -> Sequence[Route]:
        return [
            Route("GET", f"v2/{_SERVICE}", lambda call: self.resources.get(call["name"])),
            Route("GET", _KNATIVE, lambda call: self._named(call)["knative"]),
            Route("PUT", _KNATIVE, self._replace),
            Route("GET", f"{_NAMESPACE}/revisions/{{id=*}}", self._revision),
            *policy_routes(f"v1/{_SERVICE}", self.project.policies, self.policy_key),
            *policy_routes(f"v2/{_SERVICE}", self.project.policies, self.policy_key),
        ]

    def _named(self, call: Call) -> Json:
        found = (
            name for name in self.resources.names() if name.endswith(f"/services/{call['id']}")
        )
        return self.resources.get(next(found, f"projects/-/locations/-/services/{call['id']}"))

    def _revision(self, call: Call) -> Json:
        """The newest revision of a service, of which gcloud reads the image."""
        for name in self.resources.names():
            template: Json = self.resources.get(name)["knative"]["spec"]["template"]
            if template["metadata"]["name"] == call["id"]:
                return template | {
                    "apiVersion": "serving.knative.dev/v1",
                    "kind": "Revision",
                    "metadata": {"name": call["id"], "namespace": self.project.id},
                    "status": {"imageDigest": "functions@sha256:0"},
                }
        raise self.missing_error(f"projects/{self.project.id}/locations/-/revisions/{call['id']}")

    def _replace(self, call: Call) -> Json:
        """A new revision, in which the variables and the annotations are those of the request."""
        service = self._named(call)
        container = call.body["spec"]["template"]["spec"]["containers"][0]
        knative = knative_service(service["name"], container.get("env", []), service["knative"])
        knative["metadata"]["annotations"] = call.body["metadata"].get("annotations", {})
        service["knative"] = knative
        return knative

    def missing_error(self, name: str) -> ApiError:
        _, project, _, region, _, service = name.split("/")
        return ApiError(
            404,
            f"Resource '{service}' of kind 'SERVICE' in region '{region}' in project '{project}'"
            " does not exist.",
        )
