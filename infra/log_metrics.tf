# What the functions' log lines tell, as numbers: for the alerts and the dashboard.

locals {
  _of_receive   = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local._prefix}-receive\""
  _of_resolve   = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local._prefix}-resolve\""
  _of_reconcile = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local._prefix}-reconcile\""

  _asks_the_api = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(\"${local._prefix}-resolve\" OR \"${local._prefix}-reconcile\")"

  _log_metrics = {
    webhooks = {
      description = "Webhooks at receive, by what became of them"
      filter      = "${local._of_receive} AND jsonPayload.message=~\"^webhook \""
      labels      = { outcome = "EXTRACT(jsonPayload.outcome)" }
    }
    attempts = {
      description = "Attempts at events at resolve, by how they ended"
      filter      = "${local._of_resolve} AND jsonPayload.message=~\"^event \""
      labels      = { outcome = "EXTRACT(jsonPayload.outcome)" }
    }
    failed-items = {
      description = "Items that an attempt could not store"
      filter      = "${local._of_resolve} AND jsonPayload.message=\"item\" AND severity>=WARNING"
      labels      = {}
    }
    rejected-keys = {
      description = "Times that Dimmy's API refused the API key"
      filter      = "${local._asks_the_api} AND jsonPayload.reason=~\"(^|: )401: \""
      labels      = {}
    }
    missed-items = {
      description = "Items that reconcile stored because no webhook had told of them"
      filter      = "${local._of_reconcile} AND jsonPayload.message=\"item\" AND jsonPayload.state=(\"created\" OR \"replaced\")"
      labels      = {}
    }
    reconciles = {
      description = "Runs of reconcile, by how they ended"
      filter      = "${local._of_reconcile} AND jsonPayload.message=~\"^reconcile (done|unfinished)\""
      labels      = { outcome = "EXTRACT(jsonPayload.outcome)" }
    }
    api-errors = {
      description = "Attempts and runs in which Dimmy's API failed, whether or not it was asked again with success"
      filter      = "${local._asks_the_api} AND jsonPayload.api_errors>=1"
      labels      = {}
    }
    api-latency = {
      description = "The slowest request to Dimmy's API of each attempt and run, in milliseconds"
      filter      = "${local._asks_the_api} AND jsonPayload.api_milliseconds>=0"
      labels      = {}
      value       = "EXTRACT(jsonPayload.api_milliseconds)"
    }
  }
}

resource "google_logging_metric" "this" {
  for_each = local._log_metrics

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

  depends_on = [google_project_service.required]
}
