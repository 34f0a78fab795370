# What needs a person. Each text says what it means, where to look, and which command helps.

locals {
  _names = "ENV=${var.environment} PROJECT=${var.project}"

  _user_metrics = { for name, metric in google_logging_metric.this : name => "metric.type=\"logging.googleapis.com/user/${metric.name}\" AND resource.type=\"cloud_run_revision\"" }

  _alerts = {
    dead-letters = {
      title     = "events are parked"
      severity  = "ERROR"
      filter    = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.dead_letters.name}\""
      aligner   = "ALIGN_MAX"
      period    = "300s"
      threshold = 0
      text      = "Events could not be finished in ${var.max_delivery_attempts} attempts. Nothing of them is lost: they are kept for ${local._longest_retention_days} days. `make redrive ${local._names}` shows them with their reasons, and finishes them once the cause is mended."
    }
    backlog = {
      title     = "events wait for more than 15 minutes"
      severity  = "WARNING"
      filter    = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.resolve.name}\""
      aligner   = "ALIGN_MAX"
      period    = "300s"
      threshold = 900
      text      = "resolve does not finish an event, or not fast enough: Dimmy's API is down, slow or limits us, or storage refuses. Pub/Sub keeps the events and tries again. `make logs SEVERITY=WARNING ${local._names}` says why."
    }
    receive-errors = {
      title     = "receive answers 5xx"
      severity  = "ERROR"
      filter    = "metric.type=\"run.googleapis.com/request_count\" AND resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local._prefix}-receive\" AND metric.labels.response_code_class=\"5xx\""
      aligner   = "ALIGN_DELTA"
      period    = "300s"
      threshold = 4
      text      = "Webhooks are not taken: Pub/Sub or storage is out of reach, or a permission is missing. Svix sends them again for about 28 hours, and disables the endpoint after 5 days. `make logs SEVERITY=ERROR ${local._names}` says why; what was missed in the end comes with `make backfill`."
    }
    signature-failures = {
      title     = "signatures do not match"
      severity  = "ERROR"
      filter    = "${local._user_metrics["webhooks"]} AND metric.labels.outcome=\"signature_mismatch\""
      aligner   = "ALIGN_DELTA"
      period    = "900s"
      threshold = 4
      text      = "The signing secret of the endpoint is not the one that receive has: it was rotated, or belongs to another endpoint. Svix disables an endpoint that fails for 5 days. Reveal the secret in Dimmy's webhook dashboard, then `make secrets ${local._names}` and `make deploy ${local._names}`."
    }
    rejected-keys = {
      title     = "the API key is rejected"
      severity  = "ERROR"
      filter    = local._user_metrics["rejected-keys"]
      aligner   = "ALIGN_DELTA"
      period    = "300s"
      threshold = 0
      text      = "Dimmy's API answers 401, so no item can be fetched; Pub/Sub keeps the events. Make a new key under Account & Limits, then `make secrets ${local._names}` and `make deploy ${local._names}`; what is parked by then, `make redrive ${local._names}` finishes."
    }
    missed-items = {
      title     = "reconcile found items that no webhook had told of"
      severity  = "WARNING"
      filter    = local._user_metrics["missed-items"]
      aligner   = "ALIGN_DELTA"
      period    = "3600s"
      threshold = 0
      text      = "They are stored now, but webhooks are being missed: look in Dimmy's webhook dashboard whether the endpoint is disabled or fails, and whether it is subscribed to items.scanned. For a time before the last 72 hours: `make backfill ${local._names} SINCE=...`."
    }
    reconcile-fails = {
      title     = "reconcile fails"
      severity  = "WARNING"
      filter    = "${local._user_metrics["reconciles"]} AND metric.labels.outcome=\"unfinished\""
      aligner   = "ALIGN_DELTA"
      period    = "21600s"
      threshold = 7
      text      = "For hours reconcile has not got to the end of its window, so that what webhooks miss is not found. Windows overlap: the next run that works makes up for it. `make logs SEVERITY=ERROR ${local._names}` says why."
    }
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alert_emails)

  display_name = each.value
  type         = "email"
  labels       = { email_address = each.value }

  depends_on = [google_project_service.required]
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local._alerts

  display_name          = "Dimmy, ${var.environment}: ${each.value.title}"
  severity              = each.value.severity
  combiner              = "OR"
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]

  conditions {
    display_name = each.value.title

    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = "0s"

      aggregations {
        alignment_period     = each.value.period
        per_series_aligner   = each.value.aligner
        cross_series_reducer = each.value.aligner == "ALIGN_MAX" ? "REDUCE_MAX" : "REDUCE_SUM"
      }
    }
  }

  documentation {
    subject   = "Dimmy, ${var.environment}: ${each.value.title}"
    content   = each.value.text
    mime_type = "text/markdown"
  }
}

# A time without any scan is no fault where nobody works at night: hence off, unless hours are given.
resource "google_monitoring_alert_policy" "silence" {
  count = var.silence_alert_hours == null ? 0 : 1

  display_name          = "Dimmy, ${var.environment}: no webhook for ${var.silence_alert_hours} hours"
  severity              = "WARNING"
  combiner              = "OR"
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]

  conditions {
    display_name = "no webhook for ${var.silence_alert_hours} hours"

    condition_absent {
      filter   = "${local._user_metrics["webhooks"]} AND metric.labels.outcome=\"published\""
      duration = "${var.silence_alert_hours * 3600}s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    subject   = "Dimmy, ${var.environment}: no webhook for ${var.silence_alert_hours} hours"
    content   = "Nothing has come for longer than you said is usual. Either nobody scans, or the endpoint is disabled or gone in Dimmy's webhook dashboard: enable it there and recover failed messages. `make status ${local._names}` says whether reconcile finds scans meanwhile."
    mime_type = "text/markdown"
  }
}
