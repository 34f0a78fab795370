# The module in a configuration of your own, in place of the root in infra/ and of `make deploy`.
#
# `make package` builds the archive and prints its path. The secrets need a version each before the functions can be created:
# create them first (terraform apply -target=module.dimmy.google_secret_manager_secret.this), add a version
# to each, and apply the rest.

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
