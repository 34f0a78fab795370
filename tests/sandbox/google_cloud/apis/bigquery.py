"""BigQuery: datasets and tables, without their data."""

import re
from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.routes import Call, Route

_DATASETS = "bigquery/v2/{parent=projects/*/datasets}"
_DATASET = "bigquery/v2/{name=projects/*/datasets/*}"
_TABLE = "bigquery/v2/{name=projects/*/datasets/*/tables/*}"

# https://cloud.google.com/bigquery/docs/reference/rest/v2/datasets: `access` has the former names.
_FORMER_ROLES = {
    "roles/bigquery.dataEditor": "WRITER",
    "roles/bigquery.dataOwner": "OWNER",
    "roles/bigquery.dataViewer": "READER",
}
_DEFAULT_ACCESS = [
    {"role": "WRITER", "specialGroup": "projectWriters"},
    {"role": "OWNER", "specialGroup": "projectOwners"},
    {"role": "READER", "specialGroup": "projectReaders"},
]
_TYPES = {"STRING", "INTEGER", "FLOAT", "BOOLEAN", "TIMESTAMP", "JSON", "RECORD"}
_TABLE_IN_QUERY = re.compile(r"`([^.`]+)\.(\w+)\.(\w+)`")


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
            Route("GET", "bigquery/v2/{name=projects/*}/serviceAccount", self._account),
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

    def _account(self, _: Call) -> Json:
        """The account with which BigQuery encrypts; reading it creates it."""
        name = f"bq-{self.project.number}@bigquery-encryption.iam.gserviceaccount.com"
        self.project.agents.add(name)
        return {"kind": "bigquery#getServiceAccountResponse", "email": name}

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
        defaults = {"location": location, "access": _DEFAULT_ACCESS}
        return self.resources.create(name, defaults | call.body | _described(name))

    def can_write(self, table: str, account: str) -> bool:
        """Whether an account may write into a table such as `project.dataset.table`."""
        dataset = _full_name(table).partition("/tables/")[0]
        return dataset in self.resources and any(
            entry.get("userByEmail") == account and entry["role"] in {"WRITER", "OWNER"}
            for entry in self.resources.get(dataset)["access"]
        )

    def columns(self, table: str) -> dict[str, str]:
        """The types of the columns of a table such as `project.dataset.table`, by their names.

        Raises ApiError (404).
        """
        fields = self.resources.get(_full_name(table)).get("schema", {}).get("fields", [])
        return {field["name"]: field["type"] for field in fields}

    def _create_table(self, call: Call) -> Json:
        dataset = self.resources.get(call["name"])
        name = f"{call['name']}/tables/{call.body['tableReference']['tableId']}"
        kind = "TABLE"
        if "view" in call.body:
            kind = "VIEW"
        elif "externalDataConfiguration" in call.body:
            kind = "EXTERNAL"
        self._check_table(call.body)
        described = _described(name) | {"type": kind, "location": dataset["location"]}
        return self.resources.create(name, call.body | described)

    def _list_tables(self, call: Call) -> Json:
        return {"tables": self.resources.below(f"{call['name']}/tables")}

    def _update(self, call: Call) -> Json:
        changes = dict(call.body)
        if "/tables/" in call["name"]:
            self._check_table(changes)
        elif "access" in changes:
            changes["access"] = [self._with_former_role(entry) for entry in changes["access"]]
        return self.resources.patch(call["name"], changes)

    def _check_table(self, table: Json) -> None:
        """Raise ApiError for columns of unknown types, and for a view of what does not exist."""
        fields = table.get("schema", {}).get("fields", [])
        columns = {field["name"]: field["type"] for field in fields}
        if unknown := [kind for kind in columns.values() if kind not in _TYPES]:
            raise ApiError(400, f"{unknown[0]} is not a valid value")
        partitioned_by = table.get("timePartitioning", {}).get("field")
        if partitioned_by and columns.get(partitioned_by) != "TIMESTAMP":
            raise ApiError(
                400,
                "The field specified for partitioning cannot be found in the schema, or is of"
                f" another type: {partitioned_by}",
            )
        for parts in _TABLE_IN_QUERY.findall(table.get("view", {}).get("query", "")):
            self.resources.get(_full_name(".".join(parts)))

    def _with_former_role(self, entry: Json) -> Json:
        account = entry.get("userByEmail", "")
        if account.endswith("gserviceaccount.com") and not self.project.has_account(account):
            raise ApiError(400, f"IAM setPolicy failed: Service account {account} does not exist.")
        return entry | {"role": _FORMER_ROLES.get(entry.get("role", ""), entry.get("role", ""))}

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


def _full_name(table: str) -> str:
    """The name of a table such as `project.dataset.table`."""
    project, dataset, table_id = table.split(".")
    return f"projects/{project}/datasets/{dataset}/tables/{table_id}"


def _short(name: str) -> str:
    """`project:dataset` or `project:dataset.table`."""
    parts = name.split("/")[1::2]
    return f"{parts[0]}:{'.'.join(parts[1:])}"
