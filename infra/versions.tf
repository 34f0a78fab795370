terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 8.7, < 9"
    }
  }

  # The bucket and the prefix of each environment's state come from envs/NAME.gcs.tfbackend and from
  # `make`, so that no project is named here.
  backend "gcs" {}
}

provider "google" {
  project = var.project
  region  = var.region

  default_labels = local._labels
}
