# Scheduled runs of reconcile. A run that fails is repeated and goes on where it ended; besides, the
# windows overlap.

resource "google_cloud_scheduler_job" "reconcile" {
  for_each = var.reconcile_schedules

  project          = var.project
  name             = "${local._prefix}-reconcile-${each.key}"
  region           = coalesce(var.scheduler_region, var.region)
  description      = "Stores the items of the last ${each.value.hours} hours whose webhook never arrived"
  schedule         = each.value.schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "${local._reconcile_timeout_seconds}s"

  retry_config {
    retry_count          = 5
    min_backoff_duration = "60s"
    max_backoff_duration = "600s"
  }

  http_target {
    http_method = "POST"
    uri         = "${local._reconcile_url}/?hours=${each.value.hours}"

    oidc_token {
      service_account_email = google_service_account.this["scheduler"].email
      audience              = local._reconcile_url
    }
  }
}

locals {
  _reconcile_url = google_cloudfunctions2_function.this["reconcile"].service_config[0].uri
}
