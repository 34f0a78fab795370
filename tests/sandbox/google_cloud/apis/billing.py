"""Cloud Billing: the billing account of the project."""

from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import Json
from sandbox.google_cloud.routes import Call, Route


class Billing(Api):
    name = "cloudbilling"

    def routes(self) -> Sequence[Route]:
        return [Route("GET", "v1/{name=projects/*}/billingInfo", self._read)]

    def _read(self, call: Call) -> Json:
        return {
            "name": f"{call['name']}/billingInfo",
            "projectId": self.project.id,
            "billingAccountName": "billingAccounts/000000-000000-000000",
            "billingEnabled": True,
        }
