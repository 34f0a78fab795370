locals {
  _apis = concat(
    [
      "artifactregistry",
      "cloudbuild",
      "cloudfunctions",
      "cloudresourcemanager",
      "cloudscheduler",
      "iam",
      "logging",
      "monitoring",
      "pubsub",
      "run",
      "secretmanager",
      "storage",
    ],
    var.bigquery ? ["bigquery"] : [],
    var.budget == null ? [] : ["billingbudgets"],
    length(local._kms_keys) == 0 ? [] : ["cloudkms", "eventarc"],
    var.load_balancer == null && var.egress == null ? [] : ["compute"],
  )
}

resource "google_project_service" "required" {
  for_each = toset(local._apis)

  project = var.project
  service = "${each.value}.googleapis.com"

  # Other software in the project may need them, too.
  disable_on_destroy = false
}
