"""An installation in Google Cloud, reached through gcloud, Terraform and Cloud Monitoring's API."""
