# The service accounts. Their roles are granted beside the resources they apply to; only the builder
# has roles on the project (in functions.tf).

locals {
  _service_accounts = {
    builder    = "Builds the functions' images"
    pusher     = "Pushes events to resolve, for Pub/Sub"
    receiver   = "Runs receive"
    reconciler = "Runs reconcile"
    resolver   = "Runs resolve"
    scheduler  = "Calls reconcile by schedule"
  }

  _members = { for name, account in google_service_account.this : name => account.member }

  _pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_service_account" "this" {
  for_each = local._service_accounts

  project      = var.project
  account_id   = "${local._prefix}-${each.key}"
  display_name = "Dimmy, ${var.environment}: ${each.key}"
  description  = each.value

  depends_on = [google_project_service.required]
}
