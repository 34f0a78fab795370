"""Policies of the organisation that would refuse a part of an installation."""

from operate.console import CommandError
from operate.google import rest
from operate.google.gcloud import Gcloud

# https://cloud.google.com/resource-manager/docs/organization-policy/restricting-domains
_ALLOWED_DOMAINS = "constraints/iam.allowedPolicyMemberDomains"


def forbids_public_members(gcloud: Gcloud) -> bool:
    """Whether a grant to `allUsers` would be refused.

    False where that is not known, because reading the policy needs a permission of its own: then
    the grant itself shows it.
    """
    path = f"v1/projects/{gcloud.deployment.project}:getEffectiveOrgPolicy"
    try:
        policy = rest.request(
            gcloud, "cloudresourcemanager", "POST", path, json={"constraint": _ALLOWED_DOMAINS}
        )
    except CommandError:
        return False
    domains = policy.get("listPolicy", {})
    return bool(domains.get("allowedValues") or domains.get("allValues") == "DENY")
