"""Cloud Billing Budgets: budgets of a billing account."""

import uuid
from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.routes import Call, Route

_BUDGET = "v1/{name=billingAccounts/*/budgets/*}"
_MAX_CHANNELS = 5


class Budgets(Api):
    name = "billingbudgets"

    def routes(self) -> Sequence[Route]:
        return [
            Route("POST", "v1/{parent=billingAccounts/*}/budgets", self._create),
            Route("GET", _BUDGET, lambda call: self.resources.get(call["name"])),
            Route("PATCH", _BUDGET, self._update),
            Route("DELETE", _BUDGET, self._delete),
        ]

    def _create(self, call: Call) -> Json:
        self._check_channels(call.body)
        name = f"{call['parent']}/budgets/{uuid.uuid4()}"
        return self.resources.create(name, call.body | {"name": name, "etag": "etag"})

    def _update(self, call: Call) -> Json:
        self._check_channels(call.body)
        return self.resources.patch(call["name"], call.body, call.update_mask)

    def _delete(self, call: Call) -> Json:
        self.delete(call["name"])
        return {}

    def _check_channels(self, budget: Json) -> None:
        channels = budget.get("notificationsRule", {}).get("monitoringNotificationChannels", [])
        known = self.project.resources["monitoring"]
        if len(channels) > _MAX_CHANNELS or any(name not in known for name in channels):
            raise ApiError(400, "Request contains an invalid argument.")
