"""BigQuery: datasets and tables, without their data."""

from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.routes import Call, Route

_DATASETS = "bigquery/v2/{parent=projects/*/datasets}"
_DATASET = "bigquery/v2/{name=projects/*/datasets/*}"
_TABLE = "bigquery/v2/{name=projects/*/datasets/*/tables/*}"


class BigQuery(Api):
    name = "bigquery"
    is_older = True

    def routes(self) -> Sequence[Route]:
        changes = [
            Route(method, template, self._update)
            for method in ("PATCH", "PUT")
            for template in (_DATASET, _TABLE)
        ]
        return [
            Route("POST", _DATASETS, self._create_dataset),
            Route(
                "GET", _DATASETS, lambda call: {"datasets": self.resources.below(call["parent"])}
            ),
            Route("GET", _DATASET, lambda call: self.resources.get(call["name"])),
            Route("DELETE", _DATASET, self._delete_dataset),
            Route("POST", f"{_DATASET}/tables", self._create_table),
            Route("GET", f"{_DATASET}/tables", self._list_tables),
            Route("GET", _TABLE, lambda call: self.resources.get(call["name"])),
            Route("DELETE", _TABLE, self._delete_table),
            *changes,
        ]

    def missing_error(self, name: str) -> ApiError:
        kind = "Table" if "/tables/" in name else "Dataset"
        return ApiError(404, f"Not found: {kind} {_short(name)}")

    def taken_error(self, name: str) -> ApiError:
        kind = "Table" if "/tables/" in name else "Dataset"
        return ApiError(409, f"Already Exists: {kind} {_short(name)}", reason="duplicate")

    def _create_dataset(self, call: Call) -> Json:
        location = call.body.get("location", "US")
        if not self.project.allows_location(location):
            raise ApiError(
                412, f"'{location}' violates constraint 'constraints/gcp.resourceLocations'"
            )
        name = f"{call['parent']}/{call.body['datasetReference']['datasetId']}"
        return self.resources.create(name, call.body | _described(name) | {"location": location})

    def _create_table(self, call: Call) -> Json:
        dataset = self.resources.get(call["name"])
        name = f"{call['name']}/tables/{call.body['tableReference']['tableId']}"
        kind = "TABLE"
        if "view" in call.body:
            kind = "VIEW"
        elif "externalDataConfiguration" in call.body:
            kind = "EXTERNAL"
        described = _described(name) | {"type": kind, "location": dataset["location"]}
        return self.resources.create(name, call.body | described)

    def _list_tables(self, call: Call) -> Json:
        return {"tables": self.resources.below(f"{call['name']}/tables")}

    def _update(self, call: Call) -> Json:
        return self.resources.patch(call["name"], call.body)

    def _delete_dataset(self, call: Call) -> Json:
        tables = self.resources.below(f"{call['name']}/tables")
        if tables and call.query.get("deleteContents") != "true":
            message = f"Dataset {_short(call['name'])} is still in use"
            raise ApiError(400, message, reason="resourceInUse")
        self.delete(call["name"])
        return {}

    def _delete_table(self, call: Call) -> Json:
        self.delete(call["name"])
        return {}


def _described(name: str) -> Json:
    link = f"https://bigquery.googleapis.com/bigquery/v2/{name}"
    times = {"creationTime": "1767225600000", "lastModifiedTime": "1767225600000"}
    return {"id": _short(name), "selfLink": link, "etag": "etag", **times}


def _short(name: str) -> str:
    """`project:dataset` or `project:dataset.table`."""
    parts = name.split("/")[1::2]
    return f"{parts[0]}:{'.'.join(parts[1:])}"
