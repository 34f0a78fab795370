"""Numbers of Cloud Monitoring, which are some minutes old."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from operate.console import CommandError
from operate.google import rest
from operate.google.gcloud import Gcloud

# A log-based metric is unknown for up to ten minutes after it was created.
_NEW_METRIC = "Cannot find metric"


class Monitoring:
    """Reads metrics of a deployment. Raises CommandError where they cannot be read."""

    def __init__(self, gcloud: Gcloud) -> None:
        self._gcloud = gcloud

    def of_subscription(self, metric: str, subscription: str) -> float | None:
        """The newest value of one of Pub/Sub's metrics of a subscription, if there is one.

        Args:
            metric: its last part, such as `num_undelivered_messages`.
            subscription: the full name.
        """
        name = subscription.rpartition("/")[2]
        points = self._points(
            f'metric.type="pubsub.googleapis.com/subscription/{metric}"'
            f' AND resource.labels.subscription_id="{name}"',
            minutes=15,
        )
        if not points:
            return None
        return _value(max(points, key=lambda point: str(point["interval"]["endTime"])))

    def count(self, metric: str, outcome: str, hours: int) -> int:
        """How often a log-based metric has counted an outcome in the last hours."""
        prefix = self._gcloud.deployment.prefix
        points = self._points(
            f'metric.type="logging.googleapis.com/user/{prefix}-{metric}"'
            f' AND metric.labels.outcome="{outcome}" AND resource.type="cloud_run_revision"',
            minutes=hours * 60,
            **{
                "aggregation.alignmentPeriod": f"{hours * 3600}s",
                "aggregation.perSeriesAligner": "ALIGN_SUM",
                "aggregation.crossSeriesReducer": "REDUCE_SUM",
            },
        )
        return round(sum(map(_value, points)))

    def _points(self, query: str, *, minutes: int, **aggregation: str) -> list[dict[str, Any]]:
        now = datetime.now(UTC)
        path = f"v3/projects/{self._gcloud.deployment.project}/timeSeries"
        parameters = {
            "filter": query,
            "interval.startTime": (now - timedelta(minutes=minutes)).isoformat(),
            "interval.endTime": now.isoformat(),
            "view": "FULL",
            **aggregation,
        }
        try:
            answer = rest.request(self._gcloud, "monitoring", "GET", path, params=parameters)
        except CommandError as error:
            if _NEW_METRIC in str(error):
                return []
            raise
        return [p for series in answer.get("timeSeries", []) for p in series["points"]]


def _value(point: Mapping[str, Any]) -> float:
    return float(next(iter(point["value"].values())))
