"""The environment that leads gcloud and Terraform to the local Google Cloud."""

from pathlib import Path

_TOKEN = "a-local-token"

# By name of gcloud (`CLOUDSDK_API_ENDPOINT_OVERRIDES_...`), the paths that it appends a version to.
_GCLOUD = {
    "ARTIFACTREGISTRY": "artifactregistry/",
    "CLOUDBILLING": "cloudbilling/",
    "CLOUDFUNCTIONS": "cloudfunctions/",
    "CLOUDRESOURCEMANAGER": "cloudresourcemanager/",
    "CLOUDSCHEDULER": "cloudscheduler/",
    "COMPUTE": "compute/compute/v1/",
    "IAM": "iam/",
    "LOGGING": "logging/",
    "MONITORING": "monitoring/",
    "PUBSUB": "pubsub/",
    "SECRETMANAGER": "secretmanager/",
    "SERVICEUSAGE": "serviceusage/",
    "STORAGE": "storage/v1/",
}
# By name of Google's provider (`GOOGLE_..._CUSTOM_ENDPOINT`), and of Terraform's backend for state.
_TERRAFORM = {
    "ARTIFACT_REGISTRY": "artifactregistry/v1/",
    "BACKEND_STORAGE": "storage/v1/",
    "BILLING_BUDGETS": "billingbudgets/v1/",
    "BIG_QUERY": "bigquery/bigquery/v2/",
    "CLOUDFUNCTIONS2": "cloudfunctions/v2/",
    "CLOUD_BILLING": "cloudbilling/v1/",
    "CLOUD_RUN": "run/",
    "CLOUD_RUN_V2": "run/v2/",
    "CLOUD_SCHEDULER": "cloudscheduler/v1/",
    "COMPUTE": "compute/compute/v1/",
    "IAM_BETA": "iam/v1/",
    "KMS": "cloudkms/v1/",
    "LOGGING": "logging/v2/",
    "MONITORING": "monitoring/",
    "PUBSUB": "pubsub/v1/",
    "RESOURCE_MANAGER": "cloudresourcemanager/v1/",
    "RESOURCE_MANAGER_V3": "cloudresourcemanager/v3/",
    "SECRET_MANAGER": "secretmanager/v1/",
    "SERVICE_USAGE": "serviceusage/v1/",
    "STORAGE": "storage/v1/",
}


def google_environment(url: str, folder: Path) -> dict[str, str]:
    """The variables for the server at `url`. `folder` gets gcloud's configuration and a token.

    STORAGE_EMULATOR_HOST, for obstore, is not among them: Terraform's backend reads it, too, and
    then sends no token (`GoogleCloud.storage_needs_token`).
    """
    # gcloud puts a region before this host, so only a proxy can look it up: the server itself.
    cloud_run = f"http://run.test:{url.rpartition(':')[2]}/run/"
    config, token = folder / "gcloud", folder / "token"
    config.mkdir(exist_ok=True)
    token.write_text(f"{_TOKEN}\n")
    return {
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "CLOUDSDK_CONFIG": str(config),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "0",
        "CLOUDSDK_CORE_DISABLE_FILE_LOGGING": "1",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "GOOGLE_OAUTH_ACCESS_TOKEN": _TOKEN,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN": cloud_run,
        "NO_PROXY": "127.0.0.1,localhost",
        "http_proxy": url,
        **{f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{n}": f"{url}/{path}" for n, path in _GCLOUD.items()},
        **{f"GOOGLE_{name}_CUSTOM_ENDPOINT": f"{url}/{path}" for name, path in _TERRAFORM.items()},
    }
