"""IAM: service accounts, and workload identity pools."""

import re
import zlib
from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.apis.identity_pools import IdentityPools
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.policies import policy_routes
from sandbox.google_cloud.routes import Call, Route

_ACCOUNT = "v1/{name=projects/*/serviceAccounts/*}"


class ServiceAccounts(Api):
    name = "iam"
    missing = "Unknown service account"
    taken = "Service account {id} already exists within project."

    def routes(self) -> Sequence[Route]:
        return [
            *IdentityPools(self.project, self.resources).routes(),
            Route("POST", "v1/{parent=projects/*}/serviceAccounts", self._create),
            Route("GET", "v1/{parent=projects/*}/serviceAccounts", self._list),
            Route("GET", _ACCOUNT, lambda call: self.resources.get(self._full(call["name"]))),
            Route("PATCH", _ACCOUNT, self._update),
            Route("DELETE", _ACCOUNT, self._delete),
            *policy_routes(
                _ACCOUNT, self.project.policies, lambda name: self.policy_key(self._full(name))
            ),
        ]

    def taken_error(self, name: str) -> ApiError:
        account = name.rpartition("/")[2].partition("@")[0]
        return ApiError(
            409, f"Service account {account} already exists within project {self.project.name}."
        )

    def _full(self, name: str) -> str:
        """The name of an account whose project is given as `-`."""
        return f"{self.project.name}/serviceAccounts/{name.rpartition('/')[2]}"

    def _create(self, call: Call) -> Json:
        account = call.body.get("accountId", "")
        if not re.fullmatch(r"[a-z]([-a-z0-9]{4,28}[a-z0-9])", account):
            raise ApiError(400, f'Invalid service account id "{account}".')
        email = f"{account}@{self.project.id}.iam.gserviceaccount.com"
        name = self._full(email)
        unique_id = f"1{zlib.crc32(email.encode()):020}"
        return self.resources.create(
            name,
            {
                **call.body.get("serviceAccount", {}),
                "name": name,
                "email": email,
                "projectId": self.project.id,
                "uniqueId": unique_id,
                "oauth2ClientId": unique_id,
            },
        )

    def _list(self, call: Call) -> Json:
        return {"accounts": self.resources.below(f"{call['parent']}/serviceAccounts")}

    def _update(self, call: Call) -> Json:
        changes = call.body.get("serviceAccount", {})
        return self.resources.patch(self._full(call["name"]), changes, call.update_mask)

    def _delete(self, call: Call) -> Json:
        self.delete(self._full(call["name"]))
        return {}
