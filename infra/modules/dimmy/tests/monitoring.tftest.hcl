# Alerts, their thresholds and texts, and the dashboard.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  project     = "warehouse-1"
  environment = "test"
  archive     = "tests/archive.zip"
}

run "monitoring" {
  command = plan

  assert {
    condition = {
      for name, alert in google_monitoring_alert_policy.this : name => join(" ", [
        alert.severity,
        alert.conditions[0].condition_threshold[0].comparison,
        alert.conditions[0].condition_threshold[0].threshold_value,
        alert.conditions[0].condition_threshold[0].aggregations[0].alignment_period,
      ])
      } == {
      backlog            = "WARNING COMPARISON_GT 900 300s"
      dead-letters       = "ERROR COMPARISON_GT 0 300s"
      failing-attempts   = "ERROR COMPARISON_GT 4 900s"
      missed-items       = "WARNING COMPARISON_GT 0 3600s"
      unknown-items      = "WARNING COMPARISON_GT 4 3600s"
      receive-errors     = "ERROR COMPARISON_GT 2 3600s"
      reconcile-fails    = "WARNING COMPARISON_GT 5 10800s"
      rejected-keys      = "ERROR COMPARISON_GT 0 300s"
      signature-failures = "ERROR COMPARISON_GT 4 900s"
    }
    error_message = "Nine alerts, each with its severity, threshold and period."
  }

  assert {
    condition = {
      for name, alert in google_monitoring_alert_policy.this : alert.alert_strategy[0].auto_close => name...
      } == {
      "10800s" = ["reconcile-fails"]
      "7200s"  = ["backlog", "dead-letters", "failing-attempts", "missed-items", "receive-errors", "rejected-keys", "signature-failures", "unknown-items"]
    }
    error_message = "An incident closes two hours after the last data, so that a new fault notifies again."
  }

  assert {
    condition     = alltrue([for metric in google_logging_metric.this : length(metric.bucket_options) == (metric.metric_descriptor[0].value_type == "DISTRIBUTION" ? 1 : 0)])
    error_message = "A distribution has buckets, and nothing else has."
  }

  assert {
    condition     = alltrue([for alert in google_monitoring_alert_policy.this : strcontains(alert.documentation[0].content, "`make ") && strcontains(alert.documentation[0].content, "ENV=test PROJECT=warehouse-1")])
    error_message = "Each alert names a command that helps, with ENV and PROJECT filled in."
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.this["dead-letters"].conditions[0].condition_threshold[0].filter, "subscription_id=\"dimmy-test-dead-letters\"") && strcontains(google_monitoring_alert_policy.this["backlog"].conditions[0].condition_threshold[0].filter, "subscription_id=\"dimmy-test-resolve\"")
    error_message = "The alerts on dead letters and on the backlog watch the matching subscriptions."
  }

  assert {
    condition     = length(google_monitoring_alert_policy.silence) == 0 && length(google_monitoring_notification_channel.email) == 0
    error_message = "Without settings there are no notifications and no alert on silence."
  }

  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles) == 15
    error_message = "The dashboard has fifteen charts."
  }
}

run "emails_and_silence" {
  command = plan

  variables {
    alert_emails        = ["warehouse-it@example.com"]
    silence_alert_hours = 12
  }

  assert {
    condition     = google_monitoring_notification_channel.email["warehouse-it@example.com"].labels.email_address == "warehouse-it@example.com"
    error_message = "Each address gets a notification channel."
  }

  assert {
    condition     = google_monitoring_alert_policy.silence[0].conditions[0].condition_absent[0].duration == "43200s"
    error_message = "Twelve hours without a webhook raise an alert."
  }
}

run "alert_channels" {
  command = plan

  variables {
    alert_emails        = ["warehouse-it@example.com"]
    alert_channels      = ["projects/warehouse-1/notificationChannels/1234"]
    silence_alert_hours = 12
  }

  assert {
    condition = alltrue([
      for alert in concat(values(google_monitoring_alert_policy.this), google_monitoring_alert_policy.silence) :
      alert.notification_channels == tolist(["the-email-channel", "projects/warehouse-1/notificationChannels/1234"])
    ])
    error_message = "Every alert notifies the addresses and the channels."
  }
}

run "item_alerts" {
  command = plan

  variables {
    bigquery            = true
    photos              = "archive"
    item_subscribers    = { wms = { endpoint = "https://wms.example.com/items?key=a-secret" } }
    silence_alert_hours = 12
  }

  assert {
    condition = {
      for name, alert in google_monitoring_alert_policy.this : name => join(" ", [
        alert.severity,
        alert.conditions[0].condition_threshold[0].threshold_value,
        regex("subscription_id=\"([^\"]+)\"", alert.conditions[0].condition_threshold[0].filter)[0],
        regex("subscription/(\\w+)", alert.conditions[0].condition_threshold[0].filter)[0],
      ]) if startswith(name, "dead-letters-") || startswith(name, "backlog-")
      } == {
      backlog-event-attempts-bigquery      = "WARNING 900 dimmy-test-event-attempts-bigquery oldest_unacked_message_age"
      backlog-item-versions-bigquery       = "WARNING 900 dimmy-test-item-versions-bigquery oldest_unacked_message_age"
      backlog-subscriber-wms               = "WARNING 900 dimmy-test-subscriber-wms oldest_unacked_message_age"
      dead-letters-archive                 = "ERROR 0 dimmy-test-archive-dead-letters num_undelivered_messages"
      dead-letters-event-attempts-bigquery = "ERROR 0 dimmy-test-event-attempts-bigquery-dead-letters num_undelivered_messages"
      dead-letters-item-versions-bigquery  = "ERROR 0 dimmy-test-item-versions-bigquery-dead-letters num_undelivered_messages"
      dead-letters-subscriber-wms          = "ERROR 0 dimmy-test-subscriber-wms-dead-letters num_undelivered_messages"
    }
    error_message = "Dead letters of every subscription raise an alert, and messages that wait, except for photos that are still uploading."
  }

  assert {
    condition     = alltrue([for alert in google_monitoring_alert_policy.this : strcontains(alert.documentation[0].content, "`make ") && strcontains(alert.documentation[0].content, "ENV=test PROJECT=warehouse-1")])
    error_message = "Each alert names a command that helps, with ENV and PROJECT filled in."
  }

  assert {
    condition     = alltrue([for text in ["`make doctor ENV=test PROJECT=warehouse-1`", "PERMISSION_DENIED", "NOT_FOUND", "SCHEMA_MISMATCH"] : strcontains(google_monitoring_alert_policy.this["backlog-item-versions-bigquery"].documentation[0].content, text)])
    error_message = "The alert says how to read the state of a BigQuery subscription, and what it means."
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.this["dead-letters-subscriber-wms"].documentation[0].content, "`make republish ENV=test PROJECT=warehouse-1 SINCE=...`") && strcontains(google_monitoring_alert_policy.this["dead-letters-subscriber-wms"].documentation[0].content, "`gcloud pubsub subscriptions seek dimmy-test-subscriber-wms-dead-letters --time=")
    error_message = "The alert says how to send the items again, and how to close it."
  }

  assert {
    condition     = alltrue([for text in ["photo_hosts", "`make backfill PHOTOS=1 ENV=test PROJECT=warehouse-1`"] : strcontains(google_monitoring_alert_policy.this["refused-photos"].documentation[0].content, text)])
    error_message = "The alert about refused photos says which variable to change, and how to fetch them then."
  }

  assert {
    condition     = google_logging_metric.this["refused-photos"].filter == "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"dimmy-test-archive\" AND jsonPayload.message=\"photos refused\""
    error_message = "The metric counts the lines that archive logs about refused photos."
  }

  assert {
    condition     = alltrue([for alert in google_monitoring_alert_policy.this : !strcontains(alert.documentation[0].content, "a-secret")])
    error_message = "No alert contains an endpoint, whose query may contain a key."
  }

  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles) == 18
    error_message = "Items have three charts more."
  }
}
