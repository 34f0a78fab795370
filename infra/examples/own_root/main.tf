# The module in a configuration of your own, in place of the root in infra/ and of `make deploy`.
#
# `make package` builds the archive and prints its path. What `make bootstrap` does is then up to you; in a
# new project:
#
#   gcloud services enable cloudresourcemanager.googleapis.com iam.googleapis.com pubsub.googleapis.com \
#     secretmanager.googleapis.com serviceusage.googleapis.com storage.googleapis.com
#   gcloud beta services identity create --service=pubsub.googleapis.com, and the same for cloudfunctions
#     (with bigquery also logging, with kms_key artifactregistry, eventarc, run and secretmanager), which are
#     enabled first
#   terraform apply -var archive=... with -target=module.dimmy.RESOURCE for each RESOURCE of
#     _FIRST_RESOURCES in infra/operate/commands/bootstrap.py
#   gcloud secrets versions add dimmy-prod-api-key --data-file=-, and the same for dimmy-prod-signing-secrets
#
# and then terraform apply -var archive=...

terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 8.7, < 9"
    }
  }
}

provider "google" {
  project = "my-project"

  # Needed for `budget`, with the credentials of a person:
  # user_project_override = true
  # billing_project       = "my-project"

  default_labels = {
    application = "dimmy"
    cost-centre = "warehouse-7"
  }
}

variable "archive" {
  description = "The path that `make package` prints."
  type        = string
}

module "dimmy" {
  source = "../../modules/dimmy"

  project     = "my-project"
  environment = "prod"
  archive     = var.archive

  alert_emails    = ["warehouse-it@example.com"]
  secret_versions = { api_key = "1", signing_secrets = "1" }
}

output "webhook_url" {
  description = "The URL to enter as an endpoint in Dimmy's webhook dashboard."
  value       = module.dimmy.webhook_url
}
