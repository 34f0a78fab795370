"""Cloud Logging: log entries, which a test puts in, and log-based metrics."""

from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import Json
from sandbox.google_cloud.filters import parse_filter
from sandbox.google_cloud.project import Project
from sandbox.google_cloud.resources import now
from sandbox.google_cloud.routes import Call, Route

_METRIC = "v2/{name=projects/*/metrics/**}"


class CloudLogging(Api):
    """`entries` are the log entries, in the format of the API."""

    name = "logging"
    missing = "Metric {id} does not exist."
    taken = "Metric {id} already exists."

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
        ]

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

    def _described(self, metric_id: str, call: Call) -> Json:
        metric_type = f"logging.googleapis.com/user/{metric_id}"
        descriptor = call.body.get("metricDescriptor", {}) | {
            "name": f"{self.project.name}/metricDescriptors/{metric_type}",
            "type": metric_type,
        }
        return {"name": metric_id, "metricDescriptor": descriptor, "updateTime": now()}


def _time(entry: Json) -> str:
    return str(entry["timestamp"])
