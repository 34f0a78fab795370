"""Cloud Monitoring: alert policies, channels, dashboards, and time series that a test adds."""

import itertools
import re
from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.filters import parse_filter
from sandbox.google_cloud.project import Project
from sandbox.google_cloud.resources import now
from sandbox.google_cloud.routes import Call, Route

_POLICY = "v3/{name=projects/*/alertPolicies/*}"
_CHANNEL = "v3/{name=projects/*/notificationChannels/*}"
_DASHBOARD = "v1/{name=projects/*/dashboards/*}"
_USER_METRIC = re.compile(r'metric\.type\s*=\s*"logging\.googleapis\.com/user/([^"]+)"')


class CloudMonitoring(Api):
    """Attributes:
    series: the time series, in the format of the API.
    unknown_metric_answers: how often each new log-based metric is still unknown to policies.
    """

    name = "monitoring"
    missing = "Could not find resource {name}."

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self.series: list[Json] = []
        self.unknown_metric_answers = 0
        self._answers_left: dict[str, int] = {}
        self._ids = itertools.count(1_000_000_001)

    def routes(self) -> Sequence[Route]:
        return [
            Route("GET", "v3/{name=projects/*}/timeSeries", self._time_series),
            Route("POST", "v3/{parent=projects/*}/alertPolicies", self._create_policy),
            Route("GET", "v3/{parent=projects/*}/alertPolicies", self._list_policies),
            Route("GET", _POLICY, lambda call: self.resources.get(call["name"])),
            Route("PATCH", _POLICY, self._update_policy),
            Route("DELETE", _POLICY, self._delete),
            Route("POST", "v3/{parent=projects/*}/notificationChannels", self._create_channel),
            Route("GET", _CHANNEL, lambda call: self.resources.get(call["name"])),
            Route("PATCH", _CHANNEL, self._update),
            Route("DELETE", _CHANNEL, self._delete_channel),
            Route("POST", "v1/{parent=projects/*}/dashboards", self._create_dashboard),
            Route("GET", _DASHBOARD, lambda call: self.resources.get(call["name"])),
            Route("PATCH", _DASHBOARD, self._update),
            Route("DELETE", _DASHBOARD, self._delete),
        ]

    def _time_series(self, call: Call) -> Json:
        query = call.query.get("filter", "")
        self._check_metrics(query)
        matches = parse_filter(query)
        start = call.query.get("interval.startTime", "")
        end = call.query.get("interval.endTime", "~")
        found = []
        for series in filter(matches, self.series):
            points = [p for p in series["points"] if start < p["interval"]["endTime"] <= end]
            found += [series | {"points": points}] if points else []
        if call.query.get("aggregation.crossSeriesReducer") == "REDUCE_SUM" and found:
            found = [_sum(found)]
        return {"timeSeries": found}

    def _create_policy(self, call: Call) -> Json:
        name = f"{call['parent']}/alertPolicies/{next(self._ids)}"
        record = {"mutateTime": now()}
        records = {"creationRecord": record, "mutationRecord": record}
        policy = {"enabled": True} | call.body | {"name": name} | records
        self._check_policy(policy)
        return self.resources.create(name, policy)

    def _update_policy(self, call: Call) -> Json:
        self._check_policy(call.body | {"name": call["name"]})
        return self._update(call)

    def _list_policies(self, call: Call) -> Json:
        return {"alertPolicies": self.resources.below(f"{call['parent']}/alertPolicies")}

    def _check_policy(self, policy: Json) -> None:
        """Raises ApiError (404) for a metric or a channel that does not exist."""
        for index, condition in enumerate(policy.get("conditions", [])):
            condition.setdefault("name", f"{policy['name']}/conditions/{index}")
            for kind in ("conditionThreshold", "conditionAbsent"):
                query = condition.get(kind, {}).get("filter", "")
                self._check_metrics(query)
        for channel in policy.get("notificationChannels", []):
            self.resources.get(channel)

    def _check_metrics(self, query: str) -> None:
        for metric_id in _USER_METRIC.findall(query):
            exists = f"{self.project.name}/metrics/{metric_id}" in self.project.resources["logging"]
            left = self._answers_left.setdefault(metric_id, self.unknown_metric_answers)
            if exists and left:
                self._answers_left[metric_id] -= 1
            if not exists or left:
                raise ApiError(
                    404,
                    "Cannot find metric(s) that match type ="
                    f' "logging.googleapis.com/user/{metric_id}". If a metric was created'
                    " recently, it could take up to 10 minutes to become available. Please try"
                    " again soon.",
                )

    def _create_channel(self, call: Call) -> Json:
        name = f"{call['parent']}/notificationChannels/{next(self._ids)}"
        return self.resources.create(name, {"enabled": True} | call.body | {"name": name})

    def _delete_channel(self, call: Call) -> Json:
        channel = call["name"]
        policies = [
            policy
            for policy in self.resources.below(f"{self.project.name}/alertPolicies")
            if channel in policy.get("notificationChannels", [])
        ]
        if policies and call.query.get("force") != "true":
            names = ", ".join(f'"{policy["name"]}"' for policy in policies)
            raise ApiError(
                400,
                f'Could not delete "{channel}" because it is still being referenced by: {names}',
            )
        for policy in policies:
            policy["notificationChannels"].remove(channel)
        return self._delete(call)

    def _create_dashboard(self, call: Call) -> Json:
        name = f"{call['parent']}/dashboards/{next(self._ids)}"
        return self.resources.create(name, call.body | {"name": name, "etag": "etag"})

    def _update(self, call: Call) -> Json:
        changes = call.body | {"name": call["name"]}
        return self.resources.patch(call["name"], changes, call.update_mask)

    def _delete(self, call: Call) -> Json:
        self.delete(call["name"])
        return {}


def _sum(found: list[Json]) -> Json:
    """One series with one point, the sum of all."""
    points = [point for series in found for point in series["points"]]
    total = sum(int(next(iter(point["value"].values()))) for point in points)
    newest = max(points, key=lambda point: str(point["interval"]["endTime"]))
    return found[0] | {"points": [newest | {"value": {"int64Value": str(total)}}]}
