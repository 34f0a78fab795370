"""The server: leads requests to the APIs, and records them."""

import json
import re
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from aiohttp import web

from sandbox.cloud_storage import CloudStorage
from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.apis.artifact_registry import ArtifactRegistry
from sandbox.google_cloud.apis.bigquery import BigQuery
from sandbox.google_cloud.apis.billing import Billing
from sandbox.google_cloud.apis.budgets import Budgets
from sandbox.google_cloud.apis.cloud_functions import CloudFunctions
from sandbox.google_cloud.apis.cloud_logging import CloudLogging
from sandbox.google_cloud.apis.cloud_monitoring import CloudMonitoring
from sandbox.google_cloud.apis.cloud_run import CloudRun
from sandbox.google_cloud.apis.compute import Compute
from sandbox.google_cloud.apis.kms import KeyManagement
from sandbox.google_cloud.apis.pubsub import PubSub
from sandbox.google_cloud.apis.resource_manager import ResourceManager
from sandbox.google_cloud.apis.scheduler import Scheduler
from sandbox.google_cloud.apis.secret_manager import SecretManager
from sandbox.google_cloud.apis.service_accounts import ServiceAccounts
from sandbox.google_cloud.apis.service_usage import ServiceUsage
from sandbox.google_cloud.apis.storage import Storage
from sandbox.google_cloud.errors import ApiError, Json, unauthenticated
from sandbox.google_cloud.project import Project
from sandbox.google_cloud.routes import Answer, Call, without_defaults
from sandbox.web_server import WebServer

_MAX_BYTES = 64 * 1024 * 1024
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class GoogleCloud:
    """A project of Google Cloud on a port of loopback.

    Each API has its name as the first part of the path: `/pubsub/v1/projects/...`. What follows is
    as Google has it. A path that begins with the name of a bucket is one of the XML API of storage.

    Attributes:
        requests: method and path of every request, in their order.
        unknown: those of them that no API has a route for, which were answered with 501.
        storage_needs_token: False for Terraform with STORAGE_EMULATOR_HOST, which sends none.
    """

    def __init__(self, project: str = "warehouse-1", number: str = "123456789012") -> None:
        self.project = Project(project, number)
        self.objects = CloudStorage()
        self.bigquery = BigQuery(self.project)
        self.pubsub = PubSub(self.project, self.bigquery)
        self.secret_manager = SecretManager(self.project)
        self.functions = CloudFunctions(self.project)
        self.scheduler = Scheduler(self.project)
        self.logging = CloudLogging(self.project)
        self.monitoring = CloudMonitoring(self.project)
        self.compute = Compute(self.project)
        self.kms = KeyManagement(self.project)
        self.storage = Storage(self.project, self.objects)
        self.requests: list[tuple[str, str]] = []
        self.unknown: list[tuple[str, str]] = []
        self.storage_needs_token = True
        apis: list[Api] = [
            ArtifactRegistry(self.project),
            Billing(self.project),
            Budgets(self.project),
            CloudRun(self.project),
            ResourceManager(self.project),
            ServiceAccounts(self.project),
            ServiceUsage(self.project),
            self.bigquery,
            self.compute,
            self.functions,
            self.kms,
            self.logging,
            self.monitoring,
            self.pubsub,
            self.scheduler,
            self.secret_manager,
            self.storage,
        ]
        self._apis = {api.name: api for api in apis}
        self._routes = {api.name: api.routes() for api in apis}
        self._server: WebServer | None = None

    @property
    def url(self) -> str:
        """Without a slash at its end; the value for STORAGE_EMULATOR_HOST, too."""
        assert self._server
        return self._server.url

    async def start(self) -> None:
        app = web.Application(client_max_size=_MAX_BYTES, middlewares=[self._admit])
        for name in self._apis:
            app.router.add_route("*", f"/{name}/{{path:.*}}", self._answer)
        for kind in ("upload", "download"):
            app.router.add_route("*", f"/{kind}/storage/{{path:.*}}", self._answer)
        self.objects.add_routes(app.router)
        self._server = await WebServer.start(app)

    async def stop(self) -> None:
        if self._server:
            await self._server.stop()

    def resource(self, api: str, name: str) -> Json | None:
        """A resource, named in full or below the project; None where it does not exist."""
        resources = self._apis[api].resources
        full = name if name in resources else f"{self.project.name}/{name}"
        return resources.get(full) if full in resources else None

    def policy(self, api: str, name: str) -> Json:
        """The IAM policy of a resource, named in full or below the project."""
        is_full = api == "storage" or name.startswith("projects/")
        return self.project.policies.read(
            f"{api}/{name}" if is_full else f"{api}/{self.project.name}/{name}"
        )

    @web.middleware
    async def _admit(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Record a request; refuse it without a token, or to a bucket that does not exist."""
        self.requests.append((request.method, request.path))
        api, _, path = request.path.lstrip("/").partition("/")
        is_storage = api in {"storage", "upload", "download"} or api in self.storage.resources
        has_token = request.headers.get("Authorization", "").startswith("Bearer ")
        if not has_token and (self.storage_needs_token or not is_storage):
            return _respond(unauthenticated(), older=False)
        if is_storage or api in self._apis:
            return await handler(request)
        if path:
            return web.Response(status=404, text="<Error><Code>NoSuchBucket</Code></Error>")
        return _respond(self._refuse_unknown(request), older=False)

    async def _answer(self, request: web.Request) -> web.Response:
        name, _, path = request.rel_url.raw_path.lstrip("/").partition("/")
        if name in {"upload", "download"}:
            name, path = "storage", f"{name}/{path}"
        api = self._apis[name]
        content = await request.read()
        try:
            answer = self._dispatch(api, request, unquote(path), content)
        except ApiError as error:
            return _respond(error, older=api.is_older)
        if isinstance(answer, Answer):
            return web.Response(
                status=answer.status, body=answer.content, headers=dict(answer.headers)
            )
        return web.json_response(answer if api.is_older else without_defaults(answer))

    def _dispatch(self, api: Api, request: web.Request, path: str, content: bytes) -> Json | Answer:
        path = path.replace(f"projects/{self.project.number}", self.project.name)
        self._check_project(path)
        self.project.check_enabled(api.name)
        for route in self._routes[api.name]:
            names = route.match(request.method, path)
            if names is not None:
                is_json = request.content_type == "application/json" and content
                body = json.loads(content) if is_json else {}
                self.kms.check(api.name, body)
                return route.handler(
                    Call(
                        names=names,
                        query=dict(request.query),
                        all_query=tuple(request.query.items()),
                        body=body,
                        content=content,
                        headers=request.headers,
                    )
                )
        raise self._refuse_unknown(request)

    def _check_project(self, path: str) -> None:
        found = re.search(r"(?:^|/)projects/([^/:]+)", path)
        if found and found[1] not in {self.project.id, "-", "_"}:
            raise ApiError(403, "The caller does not have permission")

    def _refuse_unknown(self, request: web.Request) -> ApiError:
        self.unknown.append((request.method, request.path))
        return ApiError(501, f"The local Google Cloud has no {request.method} {request.path}.")


def _respond(error: ApiError, *, older: bool) -> web.Response:
    return web.json_response(error.body(older=older), status=error.code)
