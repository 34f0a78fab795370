# Who acts. What each of them may do stands beside the thing that it may be done to; only what has no
# resource to stand on is granted on the project (builder, in functions.tf).

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

  account_id   = "${local._prefix}-${each.key}"
  display_name = "Dimmy, ${var.environment}: ${each.key}"
  description  = each.value

  depends_on = [google_project_service.required]
}
