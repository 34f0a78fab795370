"""Cloud Functions, 2nd generation: each function is a service of Cloud Run, too."""

import zlib
from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.apis.cloud_run import knative_service
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.project import Project
from sandbox.google_cloud.resources import now
from sandbox.google_cloud.routes import Call, Route

_LOCATION = "v2/{parent=projects/*/locations/*}"
_FUNCTION = "v2/{name=projects/*/locations/*/functions/*}"
_READER = "roles/secretmanager.secretAccessor"


class CloudFunctions(Api):
    """`urls` are the URLs that functions get, by their names; others get one at run.app."""

    name = "cloudfunctions"
    missing = "Resource '{name}' was not found"
    taken = "Could not create resource {name}, already exists"

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self.urls: dict[str, str] = {}

    def routes(self) -> Sequence[Route]:
        return [
            Route("POST", f"{_LOCATION}/functions", self._create),
            Route("GET", f"{_LOCATION}/functions", self._list),
            Route("GET", _FUNCTION, lambda call: self.resources.get(call["name"])),
            Route("PATCH", _FUNCTION, self._update),
            Route("DELETE", _FUNCTION, self._delete),
            Route("GET", "v2/{name=projects/*/locations/*/operations/*}", self._operation),
        ]

    def _create(self, call: Call) -> Json:
        name = f"{call['parent']}/functions/{call.query['functionId']}"
        function = call.body | {"name": name, "environment": "GEN_2", "createTime": now()}
        self._check_accounts(function)
        return self._deploy(self.resources.create(name, function))

    def _update(self, call: Call) -> Json:
        self._check_accounts(self.resources.get(call["name"]) | call.body)
        return self._deploy(self.resources.patch(call["name"], call.body, call.update_mask))

    def _list(self, call: Call) -> Json:
        return {"functions": self.resources.below(f"{call['parent']}/functions")}

    def _delete(self, call: Call) -> Json:
        self.delete(call["name"])
        service = _service(call["name"])
        if service in self.project.resources["run"]:
            self.project.resources["run"].delete(service)
        self.project.policies.drop(f"run/{service}")
        return self.project.operations.start(call["name"].rpartition("/functions/")[0])

    def _operation(self, call: Call) -> Json:
        return self.project.operations.read(call["name"])

    def _deploy(self, function: Json) -> Json:
        """Deploy a new revision, and complete the function by what Google sets."""
        name = function["name"]
        location = name.rpartition("/functions/")[0]
        function["updateTime"] = now()
        if problem := self._secret_problem(function):
            service_id = name.rpartition("/")[2]
            error = ApiError(
                400, f"Could not create or update Cloud Run service {service_id}, {problem}"
            )
            function |= {"state": "FAILED", "stateMessages": [{"message": error.message}]}
            return self.project.operations.start(location, error=error)
        function.pop("stateMessages", None)
        url = self._url(name)
        function |= {"state": "ACTIVE", "url": url}
        service = _service(name)
        function["serviceConfig"] |= {
            "service": service,
            "uri": url,
            "allTrafficOnLatestRevision": True,
        }
        services = self.project.resources["run"]
        previous = services.get(service)["knative"] if service in services else None
        environment = _variables(function["serviceConfig"])
        knative = knative_service(service, environment, previous)
        services.put(service, {"name": service, "uri": url, "knative": knative})
        return self.project.operations.start(location, function)

    def _url(self, name: str) -> str:
        function_id = name.rpartition("/")[2]
        default = f"https://{function_id}-{zlib.crc32(name.encode()):08x}-ew.a.run.app"
        return self.urls.get(function_id, default)

    def _check_accounts(self, function: Json) -> None:
        runner = function["serviceConfig"].get("serviceAccountEmail", "")
        if runner and not self.project.has_account(runner):
            raise ApiError(
                403,
                f"Could not create Cloud Run service {function['name'].rpartition('/')[2]}."
                f" Permission 'iam.serviceaccounts.actAs' denied on service account {runner} (or it"
                " may not exist).",
            )
        builder = function["buildConfig"].get("serviceAccount", "").rpartition("/")[2]
        if builder and not self.project.has_account(builder):
            raise ApiError(
                404, f"Service account projects/-/serviceAccounts/{builder} was not found."
            )

    def _secret_problem(self, function: Json) -> str:
        """Why Cloud Run refuses the revision because of its secrets; empty if it does not."""
        config = function["serviceConfig"]
        account = config.get("serviceAccountEmail", "")
        for index, secret in enumerate(config.get("secretEnvironmentVariables", [])):
            name = f"{self.project.name}/secrets/{secret['secret']}"
            numbered = f"projects/{self.project.number}/secrets/{secret['secret']}"
            version = f"{numbered}/versions/{secret['version']}"
            field = f"spec.template.spec.containers[0].env[{index}].value_from.secret_key_ref.name"
            found = self._version(name, secret["version"])
            if found is None:
                return f"{field}: Secret {version} was not found"
            if found["state"] != "ENABLED":
                return f"{field}: Secret {version} is in {found['state']} state"
            readers = self.project.policies.members(f"secretmanager/{name}", _READER)
            if f"serviceAccount:{account}" not in readers:
                return (
                    f"{field}: Permission denied on secret: {version} for Revision service account"
                    f" {account}. The service account used must be granted the 'Secret Manager"
                    f" Secret Accessor' role ({_READER}) at the secret, project or higher level."
                )
        return ""

    def _version(self, secret: str, version: str) -> Json | None:
        versions = self.project.resources["secretmanager"].below(f"{secret}/versions")
        if version == "latest":
            return versions[-1] if versions else None
        return next((v for v in versions if v["name"].endswith(f"/{version}")), None)


def _variables(config: Json) -> list[Json]:
    """The variables of a function as its service has them."""
    plain = config.get("environmentVariables", {})
    return [{"name": name, "value": value} for name, value in plain.items()] + [
        {
            "name": secret["key"],
            "valueFrom": {
                "secretKeyRef": {"name": secret["secret"], "key": str(secret["version"])}
            },
        }
        for secret in config.get("secretEnvironmentVariables", [])
    ]


def _service(function: str) -> str:
    """The name of the Cloud Run service of a function."""
    return function.replace("/functions/", "/services/")
