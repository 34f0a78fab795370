# Metrics computed from the functions' log lines, for the alerts and the dashboard.

locals {
  _receive_filter   = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local._prefix}-receive\""
  _resolve_filter   = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local._prefix}-resolve\""
  _reconcile_filter = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local._prefix}-reconcile\""

  _api_client_filter = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(\"${local._prefix}-resolve\" OR \"${local._prefix}-reconcile\")"

  _log_metrics = {
    webhooks = {
      description = "Webhooks at receive, by outcome"
      filter      = "${local._receive_filter} AND jsonPayload.message=~\"^webhook \""
      labels      = { outcome = "EXTRACT(jsonPayload.outcome)" }
    }
    attempts = {
      description = "Attempts of resolve at events, by outcome"
      filter      = "${local._resolve_filter} AND jsonPayload.message=~\"^event \""
      labels      = { outcome = "EXTRACT(jsonPayload.outcome)" }
    }
    unfinished-attempts = {
      description = "Attempts that could not finish an event, by what prevented it"
      filter      = "${local._resolve_filter} AND jsonPayload.reason_class=~\"^[a-z_]+$\""
      labels      = { reason_class = "EXTRACT(jsonPayload.reason_class)" }
    }
    failed-items = {
      description = "Items that an attempt could not store"
      filter      = "${local._resolve_filter} AND jsonPayload.message=\"item\" AND severity>=WARNING"
      labels      = {}
    }
    rejected-keys = {
      description = "Rejections of the API key by Dimmy's API"
      filter      = "${local._api_client_filter} AND jsonPayload.reason=~\"(^|: )401: \""
      labels      = {}
    }
    missed-items = {
      description = "Items stored by reconcile, whose webhook never arrived"
      filter      = "${local._reconcile_filter} AND jsonPayload.message=\"item\" AND jsonPayload.state=(\"created\" OR \"replaced\")"
      labels      = {}
    }
    reconciles = {
      description = "Runs of reconcile, by outcome"
      filter      = "${local._reconcile_filter} AND jsonPayload.message=~\"^reconcile (done|unfinished)\""
      labels      = { outcome = "EXTRACT(jsonPayload.outcome)" }
    }
    api-errors = {
      description = "Attempts and runs in which a request to Dimmy's API failed, even if a retry succeeded"
      filter      = "${local._api_client_filter} AND jsonPayload.api_errors>=1"
      labels      = {}
    }
    api-latency = {
      description = "The slowest request to Dimmy's API of each attempt and run, in milliseconds"
      filter      = "${local._api_client_filter} AND jsonPayload.api_milliseconds>=0"
      labels      = {}
      value       = "EXTRACT(jsonPayload.api_milliseconds)"
    }
  }
}

locals {
  _archive_log_metrics = {
    for name in local._archives_photos ? ["refused-photos"] : [] : name => {
      description = "Items with photos that archive does not fetch"
      filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local._prefix}-archive\" AND jsonPayload.message=\"photos refused\""
      labels      = {}
    }
  }
}

resource "google_logging_metric" "this" {
  for_each = merge(local._log_metrics, local._archive_log_metrics)

  project          = var.project
  name             = "${local._prefix}-${each.key}"
  description      = each.value.description
  filter           = each.value.filter
  label_extractors = each.value.labels
  value_extractor  = lookup(each.value, "value", null)

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = lookup(each.value, "value", null) == null ? "INT64" : "DISTRIBUTION"
    unit        = lookup(each.value, "value", null) == null ? "1" : "ms"

    dynamic "labels" {
      for_each = each.value.labels

      content {
        key = labels.key
      }
    }
  }

  # Google requires it of a distribution: here from 1 ms to half an hour, each 1.4 times the one before.
  dynamic "bucket_options" {
    for_each = lookup(each.value, "value", null) == null ? [] : [each.value.value]

    content {
      exponential_buckets {
        num_finite_buckets = 43
        growth_factor      = 1.4
        scale              = 1
      }
    }
  }

  depends_on = [google_project_service.required]
}
