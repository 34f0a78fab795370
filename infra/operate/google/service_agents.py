"""Google's own accounts in a project, which roles are granted to.

In a new project they do not exist until they are asked for, and a grant to one that does not exist
fails (https://cloud.google.com/iam/docs/create-service-agents).
"""

import time

from operate.console import CommandError
from operate.google import rest
from operate.google.gcloud import Gcloud

_SERVICES = ("pubsub",)  # Terraform asks for that of Cloud Storage by itself
_POLL_SECONDS = 1.0
_WAIT_SECONDS = 120.0


def create_service_agents(gcloud: Gcloud) -> None:
    """Create those that Terraform grants roles to. One that exists stays as it is.

    Raises:
        CommandError: one cannot be created.
    """
    for service in _SERVICES:
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
