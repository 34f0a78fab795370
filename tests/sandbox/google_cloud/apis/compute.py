"""Compute Engine: the parts of a global load balancer, and of a network with NAT."""

import re
import uuid
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.resources import now
from sandbox.google_cloud.routes import Call, Route

_BASE = "https://www.googleapis.com/compute/v1/"
_SCOPES = ("projects/*/global", "projects/*/regions/*")
_COLLECTIONS = (
    "addresses",
    "backendServices",
    "forwardingRules",
    "networkEndpointGroups",
    "networks",
    "routers",
    "securityPolicies",
    "sslCertificates",
    "sslPolicies",
    "subnetworks",
    "targetHttpsProxies",
    "urlMaps",
)
_ADDRESSES = {"IPV4": "203.0.113.7", "IPV6": "2001:db8::7"}


class Compute(Api):
    name = "compute"
    missing = "The resource '{name}' was not found"
    taken = "The resource '{name}' already exists"
    is_older = True

    def routes(self) -> Sequence[Route]:
        # The only resources that Google changes at a path without their scope.
        proxy = "compute/v1/{name=projects/*/targetHttpsProxies/*}/{verb=set*}"
        own = [Route("POST", proxy, self._update_proxy)]
        return own + [route for scope in _SCOPES for route in self._routes_of(scope)]

    def _routes_of(self, scope: str) -> Iterator[Route]:
        operation = f"compute/v1/{{name={scope}/operations/*}}"
        yield Route("GET", operation, _done)
        yield Route("POST", f"{operation}/wait", _done)
        for collection in _COLLECTIONS:
            within = f"compute/v1/{{parent={scope}/{collection}}}"
            one = f"compute/v1/{{name={scope}/{collection}/*}}"
            yield Route("POST", within, self._create)
            yield Route("GET", within, self._list)
            yield Route("GET", one, lambda call: self.resources.get(call["name"]))
            yield Route("PATCH", one, self._update)
            yield Route("PUT", one, self._update)
            yield Route("DELETE", one, self._delete)
            for rule in ("addRule", "patchRule", "removeRule"):
                yield Route("POST", f"{one}/{rule}", self._change_rule)
            yield Route("POST", f"{one}/{{verb=set*}}", self._update)

    def set_certificate_status(self, certificate_id: str, status: str) -> None:
        """Set the status of a managed certificate, such as ACTIVE or FAILED_NOT_VISIBLE."""
        name = f"{self.project.name}/global/sslCertificates/{certificate_id}"
        managed = self.resources.get(name)["managed"]
        managed |= {"status": status, "domainStatus": dict.fromkeys(managed["domains"], status)}

    def taken_error(self, name: str) -> ApiError:
        return ApiError(409, f"The resource '{name}' already exists", reason="alreadyExists")

    def _create(self, call: Call) -> Json:
        name = f"{call['parent']}/{call.body['name']}"
        resource = call.body | {
            "id": str(zlib.crc32(name.encode())),
            "selfLink": f"{_BASE}{name}",
            "creationTimestamp": now(),
            "fingerprint": "AAAAAAAAAAA=",
        }
        if call["parent"].endswith("/addresses"):
            address = _ADDRESSES[resource.get("ipVersion", "IPV4")]
            resource |= {"address": address, "status": "RESERVED"}
        if call["parent"].endswith("/networkEndpointGroups"):
            resource["region"] = f"{_BASE}{call['parent'].rpartition('/')[0]}"
        self.resources.create(name, resource)
        if call["parent"].endswith("/sslCertificates"):
            self.set_certificate_status(call.body["name"], "PROVISIONING")
        return _operation(name)

    def _list(self, call: Call) -> Json:
        return {"items": self.resources.below(call["parent"])}

    def _update(self, call: Call) -> Json:
        self.resources.patch(call["name"], call.body)
        return _operation(call["name"])

    def _update_proxy(self, call: Call) -> Json:
        name = call["name"].replace("/targetHttpsProxies/", "/global/targetHttpsProxies/")
        self.resources.patch(name, call.body)
        return _operation(name)

    def _change_rule(self, call: Call) -> Json:
        policy = self.resources.get(call["name"])
        priority = int(call.query.get("priority") or call.body.get("priority", 0))
        others = [rule for rule in policy.get("rules", []) if rule["priority"] != priority]
        changed = [{"priority": priority} | call.body] if call.body else []
        policy["rules"] = others + changed
        return _operation(call["name"])

    def _delete(self, call: Call) -> Json:
        name = call["name"]
        self.resources.get(name)
        for other in self.resources.names():
            if name in _references(self.resources.get(other)) and other != name:
                raise ApiError(
                    400,
                    f"The {_kind(name)} resource '{name}' is already being used by '{other}'",
                    reason="resourceInUseByAnotherResource",
                )
        self.delete(name)
        return _operation(name)


def _references(value: Any) -> set[str]:
    """The names of all resources in a value, which are written as names or as URLs."""
    if isinstance(value, dict):
        return {name for inner in value.values() for name in _references(inner)}
    if isinstance(value, list):
        return {name for inner in value for name in _references(inner)}
    found = re.search(r"projects/[^/]+/(global|regions/[^/]+)/\w+/[^/]+$", str(value))
    return {found[0]} if found else set()


def _kind(name: str) -> str:
    """`network_endpoint_group` for one of the collection networkEndpointGroups."""
    collection = name.split("/")[-2]
    singular = re.sub(r"ies$", "y", collection)
    singular = re.sub(r"(?<=[sx])es$|s$", "", singular) if singular == collection else singular
    return re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", singular)


def _operation(name: str) -> Json:
    scope = "/".join(name.split("/")[:-2])
    operation_id = f"operation-{uuid.uuid4()}"
    return {
        "kind": "compute#operation",
        "name": operation_id,
        "status": "DONE",
        "progress": 100,
        "targetLink": f"{_BASE}{name}",
        "selfLink": f"{_BASE}{scope}/operations/{operation_id}",
    }


def _done(call: Call) -> Json:
    scope, _, operation_id = call["name"].rpartition("/operations/")
    return _operation(f"{scope}/operations/{operation_id}") | {"name": operation_id}
