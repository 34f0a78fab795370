# The service accounts. Their roles are granted beside the resources they apply to; only the builder
# has roles on the project (in functions.tf).

locals {
  _service_accounts = merge(
    {
      builder    = "Builds the functions' images"
      pusher     = "Pushes events to resolve, for Pub/Sub"
      receiver   = "Runs receive"
      reconciler = "Runs reconcile"
      resolver   = "Runs resolve"
      scheduler  = "Calls reconcile by schedule"
    },
    local._archives_photos ? { archiver = "Runs archive" } : {},
    local._pushes_with_token ? { notifier = "Pushes items to subscribers, for Pub/Sub" } : {},
  )

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
