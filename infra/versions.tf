terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 8.7, < 9"
    }
  }

  # envs/NAME.gcs.tfbackend sets the prefix and `make` the bucket, so no project is named here.
  backend "gcs" {}
}

provider "google" {
  project = var.project

  # For the credentials of a person, the API of budgets needs a project to count requests against.
  user_project_override = var.budget == null ? null : true
  billing_project       = var.budget == null ? null : var.project

  default_labels = merge(var.labels, {
    application = "dimmy"
    environment = var.environment
  })
}
