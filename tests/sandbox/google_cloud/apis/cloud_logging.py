"""Cloud Logging: log entries, which a test puts in, log-based metrics, and sinks.

A sink passes nothing on.
"""

from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.filters import parse_filter
from sandbox.google_cloud.project import Project
from sandbox.google_cloud.resources import now
from sandbox.google_cloud.routes import Call, Route

_METRIC = "v2/{name=projects/*/metrics/**}"
_SINK = "v2/{name=projects/*/sinks/*}"


class CloudLogging(Api):
    """`entries` are the log entries, in the format of the API."""

    name = "logging"

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self.entries: list[Json] = []

    def routes(self) -> Sequence[Route]:
        return [
            Route("POST", "v2/entries:list", self._read_entries),
            Route("POST", "v2/{parent=projects/*}/metrics", self._create),
            Route("GET", "v2/{parent=projects/*}/metrics", self._list),
            Route("GET", _METRIC, lambda call: self.resources.get(call["name"])),
            Route("PUT", _METRIC, self._update),
            Route("DELETE", _METRIC, self._delete),
            Route("POST", "v2/{parent=projects/*}/sinks", self._create_sink),
            Route("GET", _SINK, lambda call: self.resources.get(call["name"])),
            Route("PATCH", _SINK, self._update_sink),
            Route("PUT", _SINK, self._update_sink),
            Route("DELETE", _SINK, self._delete),
        ]

    def missing_error(self, name: str) -> ApiError:
        return ApiError(404, f"{_short(name)} does not exist.")

    def taken_error(self, name: str) -> ApiError:
        return ApiError(409, f"{_short(name)} already exists.")

    def _read_entries(self, call: Call) -> Json:
        matches = parse_filter(call.body.get("filter", ""))
        newest_first = call.body.get("orderBy", "").endswith("desc")
        found = sorted(filter(matches, self.entries), key=_time, reverse=newest_first)
        return {"entries": found[: int(call.body.get("pageSize", 50))]}

    def _create(self, call: Call) -> Json:
        name = f"{call['parent']}/metrics/{call.body['name']}"
        return self.resources.create(name, call.body | self._described(call.body["name"], call))

    def _list(self, call: Call) -> Json:
        return {"metrics": self.resources.below(f"{call['parent']}/metrics")}

    def _update(self, call: Call) -> Json:
        metric_id = self.resources.get(call["name"])["name"]
        return self.resources.put(call["name"], call.body | self._described(metric_id, call))

    def _delete(self, call: Call) -> Json:
        self.delete(call["name"])
        return {}

    def _create_sink(self, call: Call) -> Json:
        """A sink with a writer of its own: a topic has to let it publish."""
        name = f"{call['parent']}/sinks/{call.body['name']}"
        writer = "cloud-logs@system.gserviceaccount.com"
        if call.query.get("uniqueWriterIdentity") == "true":
            writer = self.project.create_agent("gcp-sa-logging")
        described = {"writerIdentity": f"serviceAccount:{writer}", "createTime": now()}
        return self.resources.create(name, call.body | described)

    def _update_sink(self, call: Call) -> Json:
        return self.resources.patch(call["name"], call.body, call.update_mask)

    def _described(self, metric_id: str, call: Call) -> Json:
        metric_type = f"logging.googleapis.com/user/{metric_id}"
        descriptor = call.body.get("metricDescriptor", {}) | {
            "name": f"{self.project.name}/metricDescriptors/{metric_type}",
            "type": metric_type,
        }
        return {"name": metric_id, "metricDescriptor": descriptor, "updateTime": now()}


def _short(name: str) -> str:
    """`Metric` or `Sink` and its id."""
    _, _, kind, resource_id = name.split("/", 3)
    return f"{kind.removesuffix('s').capitalize()} {resource_id}"


def _time(entry: Json) -> str:
    return str(entry["timestamp"])
