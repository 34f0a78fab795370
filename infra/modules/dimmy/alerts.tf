# Alerts about what needs a person. Each text says what happened, whether data is at risk, and which
# command helps.

locals {
  _make_arguments = "ENV=${var.environment} PROJECT=${var.project}"

  _alert_channels = concat([for channel in google_monitoring_notification_channel.email : channel.id], var.alert_channels)

  _user_metrics = { for name, metric in google_logging_metric.this : name => "metric.type=\"logging.googleapis.com/user/${metric.name}\" AND resource.type=\"cloud_run_revision\"" }

  _event_alerts = {
    dead-letters = {
      title     = "events are dead letters"
      severity  = "ERROR"
      filter    = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.dead_letters["resolve"].name}\""
      aligner   = "ALIGN_MAX"
      period    = "300s"
      threshold = 0
      text      = "Events still failed after ${var.max_delivery_attempts} attempts, so Pub/Sub moved them to the dead letters. No data is lost: dead letters are kept for ${local._longest_retention_days} days.\n\n`make redrive ${local._make_arguments}` lists them with the reason for each, asks, and sends them to resolve again. Solve the cause before you confirm."
    }
    backlog = {
      title     = "events wait for more than 15 minutes"
      severity  = "WARNING"
      filter    = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.resolve.name}\""
      aligner   = "ALIGN_MAX"
      period    = "300s"
      threshold = 900
      text      = "The oldest event has been waiting for more than 15 minutes: resolve cannot finish it, or is too slow. Usual causes: Dimmy's API is down, slow or limits the rate, or storage refuses writes. No data is lost: Pub/Sub keeps the events and delivers them again.\n\n`make logs SEVERITY=WARNING ${local._make_arguments}` shows the reasons. If the alert *events wait for items that Dimmy does not know* is open and *attempts fail* is not, deleted items are the reason and there is no outage."
    }
    failing-attempts = {
      title     = "attempts fail"
      severity  = "ERROR"
      filter    = "${local._user_metrics["unfinished-attempts"]} AND metric.labels.reason_class!=\"not_found\""
      aligner   = "ALIGN_DELTA"
      period    = "900s"
      threshold = 4
      text      = "resolve cannot finish events because of Dimmy's API, storage, or items that cannot be stored. No data is lost: Pub/Sub keeps the events and delivers them again.\n\n`make status ${local._make_arguments}` names an event, and `make trace` explains it."
    }
    unknown-items = {
      title     = "events wait for items that Dimmy does not know"
      severity  = "WARNING"
      filter    = "${local._user_metrics["unfinished-attempts"]} AND metric.labels.reason_class=\"not_found\""
      aligner   = "ALIGN_DELTA"
      period    = "3600s"
      threshold = 4
      text      = "Dimmy's API answers 404 for items that events have announced: they were deleted, or the API key belongs to another account. This is no outage: other events are stored.\n\n`make status ${local._make_arguments}` names such an event; `make trace ${local._make_arguments} EVENT=...` says which of the two it is. `make discard ${local._make_arguments} EVENT=...` gives up deleted items."
    }
    receive-errors = {
      title     = "receive answers 5xx"
      severity  = "ERROR"
      filter    = "metric.type=\"run.googleapis.com/request_count\" AND resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local._prefix}-receive\" AND metric.labels.response_code_class=\"5xx\""
      aligner   = "ALIGN_DELTA"
      period    = "3600s"
      threshold = 2 # Svix tries a webhook three times within six minutes
      text      = "receive cannot accept webhooks: Pub/Sub or storage is unreachable, or a permission is missing. Svix retries each webhook for about 28 hours, and disables an endpoint that fails for 5 days.\n\n`make logs SEVERITY=ERROR ${local._make_arguments}` shows the reason. If webhooks were lost in the end, `make backfill ${local._make_arguments} SINCE=...` stores their items."
    }
    signature-failures = {
      title     = "signatures do not match"
      severity  = "ERROR"
      filter    = "${local._user_metrics["webhooks"]} AND metric.labels.outcome=\"signature_mismatch\""
      aligner   = "ALIGN_DELTA"
      period    = "900s"
      threshold = 4
      text      = "receive refuses webhooks because its signing secret is not the endpoint's: the secret was rotated, or belongs to another endpoint. Svix disables an endpoint that fails for 5 days.\n\nReveal the endpoint's secret in Dimmy's webhook dashboard and run `make secrets ${local._make_arguments}`, then `make rotate ${local._make_arguments}`, which needs no build. Then *Recover Failed Messages* in the dashboard resends the refused webhooks."
    }
    rejected-keys = {
      title     = "the API key is rejected"
      severity  = "ERROR"
      filter    = local._user_metrics["rejected-keys"]
      aligner   = "ALIGN_DELTA"
      period    = "300s"
      threshold = 0
      text      = "Dimmy's API rejects the API key (401), so no item can be fetched. No data is lost: Pub/Sub keeps the events.\n\nCreate a new key under *Account & Limits* in the Dimmy web app and run `make secrets ${local._make_arguments}`, then `make rotate ${local._make_arguments}`, which needs no build. If events have become dead letters by then, `make redrive ${local._make_arguments}` sends them to resolve again."
    }
    missed-items = {
      title     = "reconcile stored items whose webhook never arrived"
      severity  = "WARNING"
      filter    = local._user_metrics["missed-items"]
      aligner   = "ALIGN_DELTA"
      period    = "3600s"
      threshold = 0
      text      = "reconcile stored items whose webhook never arrived, or newer versions of them. They are safe now. Unless somebody has run `make backfill` or edited items in Dimmy, or the installation is new and these are scans from before it, webhooks are being lost: check in Dimmy's webhook dashboard that the endpoint is enabled, does not fail, and is subscribed to items.scanned.\n\nBy default the schedules cover the last 90 days. To store older items: `make backfill ${local._make_arguments} SINCE=...`."
    }
    reconcile-fails = {
      title     = "reconcile fails"
      severity  = "WARNING"
      filter    = "${local._user_metrics["reconciles"]} AND metric.labels.outcome=\"unfinished\""
      aligner   = "ALIGN_DELTA"
      period    = "10800s"
      threshold = 5 # Cloud Scheduler calls it six times, in half an hour
      text      = "reconcile has not completed its window, in spite of its retries, so items whose webhook never arrived are not found. The windows overlap: the next complete run stores what is missing.\n\n`make logs SEVERITY=ERROR ${local._make_arguments}` shows the reason."
    }
  }
}

locals {
  # Items are also in the bucket: what to do after the cause is solved, for each subscription of them.
  _republish = "`make republish ${local._make_arguments} SINCE=...` publishes the items of the bucket again, also to the other subscriptions, which a repetition does not harm."

  _item_remedies = merge(
    { for name, table in local._bigquery_subscriptions : name => table == "item_versions" ? local._republish : "The view events lacks these attempts, and nothing else does: `make trace ${local._make_arguments} EVENT=...` explains an event from its receipt." },
    { for name in keys(local._archive_subscriptions) : name => "The photos are still missing or refused: `make logs SEVERITY=WARNING ${local._make_arguments}` shows which ones, and why. ${local._republish}" },
    { for name in keys(local._subscriber_subscriptions) : name => local._republish },
  )

  _item_dead_letter_alerts = {
    for name, remedy in local._item_remedies : "dead-letters-${name}" => {
      title     = "messages of ${name} are dead letters"
      severity  = "ERROR"
      filter    = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.dead_letters[name].name}\""
      aligner   = "ALIGN_MAX"
      period    = "300s"
      threshold = 0
      text      = "Pub/Sub could not deliver messages of the subscription ${local._prefix}-${name} and moved them to the dead letters. No scan is lost: the bucket has every item.\n\n`gcloud pubsub subscriptions pull ${google_pubsub_subscription.dead_letters[name].name} --limit=10 --project=${var.project}` shows them. Solve the cause first. ${remedy}\n\nThen empty the dead letters, which closes this alert: `gcloud pubsub subscriptions seek ${google_pubsub_subscription.dead_letters[name].name} --time=$(date -u +%Y-%m-%dT%H:%M:%SZ) --project=${var.project}`"
    }
  }

  # Cloud Monitoring has no metric of a BigQuery subscription's state, but one that is not active delivers
  # nothing. archive has no such alert: it waits for photos that are still uploading.
  _waiting = merge(
    {
      for name, subscription in google_pubsub_subscription.bigquery : name => {
        subscription = subscription.name
        text         = "`make doctor ${local._make_arguments}` shows the state of the subscription. PERMISSION_DENIED: Pub/Sub's service agent may not write into the dataset. NOT_FOUND: the table was deleted. SCHEMA_MISMATCH: its columns were changed. In these cases `make plan` shows what differs, and `make deploy` restores it. ACTIVE: BigQuery is slow, or refuses single messages."
      }
    },
    {
      for name, subscription in google_pubsub_subscription.subscriber : name => {
        subscription = subscription.name
        text         = "The endpoint is unreachable, too slow, or does not answer 2xx: the chart of subscription/push_request_count in Cloud Monitoring shows its answers. `make plan ${local._make_arguments}` shows whether item_subscribers has another endpoint than Pub/Sub uses."
      }
    },
  )

  _photo_alerts = {
    for name in keys(local._archive_log_metrics) : name => {
      title     = "photos are refused"
      severity  = "ERROR"
      filter    = local._user_metrics[name]
      aligner   = "ALIGN_DELTA"
      period    = "3600s"
      threshold = 0
      text      = "archive does not fetch photos, because their links lead to another host than those of `photo_hosts` (${join(", ", var.photo_hosts)}), or because they are too large. They are not tried again by themselves, and a link may not last.\n\n`make logs SEVERITY=WARNING ${local._make_arguments}` names the hosts. If they are Dimmy's, add them to photo_hosts in infra/envs/${var.environment}.tfvars, `make deploy ${local._make_arguments}`, and `make backfill PHOTOS=1 ${local._make_arguments}` fetches what is missing."
    }
  }

  _item_backlog_alerts = {
    for name, waiting in local._waiting : "backlog-${name}" => {
      title     = "messages of ${name} wait for more than 15 minutes"
      severity  = "WARNING"
      filter    = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${waiting.subscription}\""
      aligner   = "ALIGN_MAX"
      period    = "300s"
      threshold = 900
      text      = "Pub/Sub has not been able to deliver a message of the subscription ${waiting.subscription} for more than 15 minutes. No data is lost: Pub/Sub keeps it and tries again.\n\n${waiting.text}"
    }
  }

  _alerts = merge(local._event_alerts, local._item_dead_letter_alerts, local._item_backlog_alerts, local._photo_alerts)
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alert_emails)

  project      = var.project
  display_name = each.value
  type         = "email"
  labels       = { email_address = each.value }

  # Otherwise an address that is taken out stays in use by the policies until they are changed, which
  # Terraform does afterwards.
  force_delete = true

  depends_on = [google_project_service.required]
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local._alerts

  project               = var.project
  display_name          = "Dimmy, ${var.environment}: ${each.value.title}"
  severity              = each.value.severity
  combiner              = "OR"
  notification_channels = local._alert_channels

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

  # When nothing is logged any more, a log metric has no data instead of zero. The incident would stay open
  # for 7 days by default, and while it is open a new fault notifies nobody. 2 hours, because reconcile logs
  # once an hour; and not less than the alert's own period.
  alert_strategy {
    auto_close = "${max(7200, tonumber(trimsuffix(each.value.period, "s")))}s"
  }

  documentation {
    subject   = "Dimmy, ${var.environment}: ${each.value.title}"
    content   = each.value.text
    mime_type = "text/markdown"
  }
}

# Off by default: in a warehouse that closes at night, hours without a scan are normal.
resource "google_monitoring_alert_policy" "silence" {
  count = var.silence_alert_hours == null ? 0 : 1

  project               = var.project
  display_name          = "Dimmy, ${var.environment}: no webhook for ${var.silence_alert_hours} hours"
  severity              = "WARNING"
  combiner              = "OR"
  notification_channels = local._alert_channels

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

  # No auto_close: here, missing data is the fault.

  documentation {
    subject   = "Dimmy, ${var.environment}: no webhook for ${var.silence_alert_hours} hours"
    content   = "No webhook arrived within ${var.silence_alert_hours} hours (`silence_alert_hours`). Either nothing was scanned, or the endpoint is disabled or deleted in Dimmy's webhook dashboard.\n\n`make status ${local._make_arguments}` shows whether reconcile finds new scans. If it does, enable the endpoint in the dashboard and use *Recover Failed Messages*."
    mime_type = "text/markdown"
  }
}
