"""IAM policies of resources (https://cloud.google.com/iam/docs/reference/rest/v1/Policy)."""

import base64
import copy
import itertools
from collections.abc import Callable

from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.routes import Call, Route


class Policies:
    """`check_members` raises ApiError for members that a policy cannot have."""

    def __init__(self, check_members: Callable[[list[str]], None]) -> None:
        self._check_members = check_members
        self._policies: dict[str, Json] = {}
        self._versions = itertools.count(1)

    def read(self, resource: str) -> Json:
        """The policy of a resource; one without bindings where none was set."""
        return self._policies.setdefault(resource, {"version": 1, "etag": self._etag()})

    def members(self, resource: str, role: str) -> set[str]:
        """The members of a role, with and without conditions."""
        bindings = self.read(resource).get("bindings", [])
        return {member for each in bindings if each["role"] == role for member in each["members"]}

    def write(self, resource: str, policy: Json) -> Json:
        """Replace a policy.

        Raises:
            ApiError: 409 for an etag that is not the latest, 400 for members that do not exist, or
                for conditions in a policy of a version below 3.
        """
        etag = policy.get("etag")
        if etag and etag != self.read(resource)["etag"]:
            raise ApiError(
                409,
                "There were concurrent policy changes. Please retry the whole read-modify-write"
                " with exponential backoff.",
                status="ABORTED",
            )
        bindings = [each for each in policy.get("bindings", []) if each.get("members")]
        self._check_members([member for each in bindings for member in each["members"]])
        has_condition = any("condition" in each for each in bindings)
        if has_condition and policy.get("version") != 3:
            raise ApiError(400, "A policy with conditions must have a version of 3.")
        self._policies[resource] = {
            "version": 3 if has_condition else 1,
            "etag": self._etag(),
            **({"bindings": copy.deepcopy(bindings)} if bindings else {}),
        }
        return self._policies[resource]

    def drop(self, resource: str) -> None:
        """Forget the policy of a resource that is deleted."""
        self._policies.pop(resource, None)

    def _etag(self) -> str:
        return base64.b64encode(next(self._versions).to_bytes(8, "big")).decode()


def policy_routes(template: str, policies: Policies, resource: Callable[[str], str]) -> list[Route]:
    """The routes of a resource's policy.

    `template` is such as `v1/{name=projects/*/topics/*}`. `resource` gives the key of the
    policy, and raises ApiError (404) for a name that does not exist.
    """

    def read(call: Call) -> Json:
        return policies.read(resource(call["name"]))

    def write(call: Call) -> Json:
        return policies.write(resource(call["name"]), call.body.get("policy") or {})

    def test(call: Call) -> Json:
        resource(call["name"])
        return {"permissions": call.body.get("permissions", [])}

    return [
        Route("GET", f"{template}:getIamPolicy", read),
        Route("POST", f"{template}:getIamPolicy", read),
        Route("POST", f"{template}:setIamPolicy", write),
        Route("POST", f"{template}:testIamPermissions", test),
    ]
