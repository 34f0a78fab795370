"""The project that all APIs share: enabled APIs, accounts, policies of its organisation."""

import re

from sandbox.google_cloud.errors import ApiError, Json, failed_precondition, service_disabled
from sandbox.google_cloud.operations import Operations
from sandbox.google_cloud.policies import Policies
from sandbox.google_cloud.resources import Resources

SERVICES = {
    "artifactregistry": "Artifact Registry API",
    "bigquery": "BigQuery API",
    "billingbudgets": "Cloud Billing Budget API",
    "cloudbilling": "Cloud Billing API",
    "cloudbuild": "Cloud Build API",
    "cloudkms": "Cloud Key Management Service (KMS) API",
    "cloudfunctions": "Cloud Functions API",
    "cloudresourcemanager": "Cloud Resource Manager API",
    "cloudscheduler": "Cloud Scheduler API",
    "compute": "Compute Engine API",
    "eventarc": "Eventarc API",
    "iam": "Identity and Access Management (IAM) API",
    "iamcredentials": "IAM Service Account Credentials API",
    "logging": "Cloud Logging API",
    "monitoring": "Cloud Monitoring API",
    "pubsub": "Cloud Pub/Sub API",
    "run": "Cloud Run Admin API",
    "secretmanager": "Secret Manager API",
    "serviceusage": "Service Usage API",
    "storage": "Cloud Storage API",
    "sts": "Security Token Service API",
}
# https://cloud.google.com/service-usage/docs/enabled-service
ENABLED_IN_NEW_PROJECTS = ("bigquery", "logging", "monitoring", "serviceusage", "storage")


class Project:
    """One project.

    Attributes:
        allowed_locations: the regions of the organisation policy gcp.resourceLocations; None for
            any.
        allows_public_members: False with the organisation policy of domain-restricted sharing.
        disabled_answers: how many requests to an API are still refused after it was enabled.
        agents: the e-mail addresses of the service agents that exist.
    """

    def __init__(self, project_id: str, number: str) -> None:
        self.id = project_id
        self.number = number
        self.allowed_locations: tuple[str, ...] | None = None
        self.allows_public_members = True
        self.disabled_answers = 0
        self.agents: set[str] = set()
        self.resources: dict[str, Resources] = {}
        self.policies = Policies(self._check_members)
        self.operations = Operations()
        self._enabled = dict.fromkeys(ENABLED_IN_NEW_PROJECTS, 0)

    @property
    def name(self) -> str:
        return f"projects/{self.id}"

    @property
    def enabled(self) -> set[str]:
        """The APIs that are enabled, such as `pubsub`."""
        return set(self._enabled)

    def enable(self, *apis: str) -> None:
        """Enable APIs. One that is enabled stays as it is."""
        for api in apis:
            self._enabled.setdefault(api, self.disabled_answers)

    def disable(self, api: str) -> None:
        self._enabled.pop(api, None)

    def check_enabled(self, api: str) -> None:
        """Raises ApiError (403) for an API that is not enabled, or was only just enabled."""
        left = self._enabled.get(api)
        if left:
            self._enabled[api] = left - 1
        if left is None or left:
            raise service_disabled(f"{api}.googleapis.com", SERVICES[api], self.number)

    def create_agent(self, name: str) -> str:
        """Create a service agent such as `gcp-sa-pubsub`; return its e-mail address."""
        email = f"service-{self.number}@{name}.iam.gserviceaccount.com"
        self.agents.add(email)
        return email

    def has_account(self, email: str) -> bool:
        """Whether a service account or a service agent exists."""
        name = f"{self.name}/serviceAccounts/{email}"
        return email in self.agents or name in self.resources["iam"]

    def allows_location(self, location: str) -> bool:
        """Whether the organisation allows resources there."""
        return self.allowed_locations is None or location.lower() in self.allowed_locations

    def effective_organisation_policy(self, constraint: str) -> Json:
        """The policy of a constraint such as `constraints/gcp.resourceLocations`."""
        values: list[str] | None = None
        if constraint.endswith("gcp.resourceLocations") and self.allowed_locations is not None:
            values = [f"in:{location}-locations" for location in self.allowed_locations]
        if constraint.endswith("iam.allowedPolicyMemberDomains") and not self.allows_public_members:
            values = ["C0warehouse"]
        rule = {"allValues": "ALLOW"} if values is None else {"allowedValues": values}
        return {"constraint": constraint, "listPolicy": rule}

    def _check_members(self, members: list[str]) -> None:
        for member in members:
            kind, _, email = member.partition(":")
            if member in {"allUsers", "allAuthenticatedUsers"} and not self.allows_public_members:
                raise failed_precondition(
                    "One or more users named in the policy do not belong to a permitted customer,"
                    "  perhaps due to an organization policy."
                )
            is_own = re.search(rf"@{self.id}\.iam\.|service-\d+@", email)
            if kind == "serviceAccount" and is_own and not self.has_account(email):
                raise ApiError(400, f"Service account {email} does not exist.")
