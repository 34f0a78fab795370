"""`make bootstrap`: what has to be there before the first deployment.

A bucket for Terraform's state, the APIs, and the secrets, which are empty at first: a function
whose secret has no version does not deploy. It can be repeated: what is there stays as it is.
"""

import os
import sys

from rich.console import Console

from operate import package
from operate.cloud import BUILD, Cloud, read_installation
from operate.console import confirm, run

# What gcloud and Terraform themselves need; Terraform enables the others.
_FIRST_APIS = ("cloudresourcemanager", "iam", "secretmanager", "serviceusage", "storage")

# Of the rest, what Google takes some minutes to know of: accounts and what they may do, before a
# build or a function relies on them, and metrics, before an alert does.
_FIRST_RESOURCES = (
    "google_logging_metric.this",
    "google_project_iam_member.builder",
    "google_project_service.required",
    "google_secret_manager_secret.this",
    "google_secret_manager_secret_iam_member.reader",
    "google_service_account.this",
)


def main() -> int:
    return run(_bootstrap)


def _bootstrap(console: Console) -> int:
    where = read_installation(os.environ)
    cloud = Cloud(where)
    bucket = f"gs://{where.state_bucket}"
    region = where.region
    console.print(
        f"This enables the APIs that Terraform needs in the project {where.project}, makes"
        f" {bucket} in {region} for Terraform's state, unless it is there, and shows what"
        " Terraform would make of the rest: the other APIs, service accounts, secrets without"
        " values, and metrics.",
        markup=False,
        soft_wrap=True,
    )
    confirm(console, os.environ, "Begin?")
    cloud.gcloud("services", "enable", *(f"{api}.googleapis.com" for api in _FIRST_APIS))
    if not cloud.exists("storage", "buckets", "describe", bucket):
        cloud.gcloud(
            "storage",
            "buckets",
            "create",
            bucket,
            f"--location={region}",
            "--uniform-bucket-level-access",
            "--public-access-prevention",
        )
        cloud.gcloud("storage", "buckets", "update", bucket, "--versioning")
    cloud.begin_terraform()
    unread = dict.fromkeys(where.secrets, "1")  # no function is made now, so none reads a version
    targets = [f"-target={resource}" for resource in _FIRST_RESOURCES]
    plan = cloud.plan(package.build(BUILD), unread, *targets)
    refused = "The first APIs are enabled and the bucket is there; nothing else was made."
    confirm(console, os.environ, "Make these, too?", refused=refused)
    cloud.apply(plan)
    console.print(
        f"\nNext: make secrets ENV={where.environment} PROJECT={where.project}", markup=False
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
