"""Google's own accounts in a project, which roles are granted to.

In a new project they do not exist until they are asked for, and a grant to one that does not exist
fails (https://cloud.google.com/iam/docs/create-service-agents).
"""

import time

from operate.console import CommandError
from operate.google import rest
from operate.google.deployment import Deployment
from operate.google.gcloud import Gcloud

# Terraform asks for those of Cloud Storage and BigQuery by itself, while it plans. That of Cloud
# Functions gets its role some minutes after it was created, and the first build needs that.
_SERVICES = ("cloudfunctions", "pubsub")
# A sink creates its agent, which the topic's policy refuses until IAM knows it.
_SERVICES_WITH_BIGQUERY = ("logging",)
# With a customer-managed key, also the services that encrypt with it
# (https://cloud.google.com/functions/docs/securing/cmek).
_SERVICES_WITH_KEY = ("artifactregistry", "eventarc", "run", "secretmanager")
_POLL_SECONDS = 1.0
_WAIT_SECONDS = 120.0


def services_with_agents(deployment: Deployment) -> tuple[str, ...]:
    """The services whose agents `create_service_agents` asks for."""
    return (
        *_SERVICES,
        *(_SERVICES_WITH_BIGQUERY if deployment.variables.get("bigquery") else ()),
        *(_SERVICES_WITH_KEY if _uses_key(deployment) else ()),
    )


def apis_of_agents(deployment: Deployment) -> tuple[str, ...]:
    """The APIs that have to be enabled before the agents can be asked for."""
    reads_bigquery = _uses_key(deployment) and deployment.variables.get("bigquery")
    return (*services_with_agents(deployment), *(["bigquery"] if reads_bigquery else []))


def _uses_key(deployment: Deployment) -> bool:
    variables = deployment.variables
    return bool(variables.get("kms_key") or variables.get("former_kms_keys"))


def create_service_agents(gcloud: Gcloud) -> None:
    """Create the agents of these services. One that exists stays as it is.

    Raises:
        CommandError: one cannot be created.
    """
    for service in services_with_agents(gcloud.deployment):
        name = f"projects/{gcloud.deployment.project}/services/{service}.googleapis.com"
        operation = rest.request(
            gcloud, "serviceusage", "POST", f"v1beta1/{name}:generateServiceIdentity"
        )
        deadline = time.monotonic() + _WAIT_SECONDS
        while not operation.get("done"):
            if time.monotonic() > deadline:
                raise CommandError(f"The service agent of {service} is still being created.")
            time.sleep(_POLL_SECONDS)
            operation = rest.request(gcloud, "serviceusage", "GET", f"v1/{operation['name']}")
        if error := operation.get("error"):
            raise CommandError(f"The service agent of {service}: {error.get('message', error)}")
