# Charts in the order in which an event passes through the pipeline.

locals {
  _subscription_filters = {
    for name, subscription in { resolve = google_pubsub_subscription.resolve, dead = google_pubsub_subscription.dead_letters["resolve"] } :
    name => "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${subscription.name}\""
  }

  # The subscriptions of items, and those of their dead letters.
  _item_filters = {
    for name, ids in {
      items = [for name in keys(local._item_subscriptions) : "\"${local._prefix}-${name}\""]
      dead  = [for name in keys(local._item_subscriptions) : "\"${google_pubsub_subscription.dead_letters[name].name}\""]
    } : name => "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=one_of(${join(",", ids)})"
  }

  _event_charts = [
    { title = "Webhooks, by outcome", filter = local._user_metrics["webhooks"], aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["metric.label.outcome"] },
    { title = "Requests to receive, by status class", filter = "metric.type=\"run.googleapis.com/request_count\" AND ${local._receive_filter}", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["metric.label.response_code_class"] },
    { title = "Latency of receive, p99 (ms)", filter = "metric.type=\"run.googleapis.com/request_latencies\" AND ${local._receive_filter}", aligner = "ALIGN_PERCENTILE_99", reducer = "REDUCE_MAX", by = [] },
    { title = "Published events", filter = "metric.type=\"pubsub.googleapis.com/topic/send_message_operation_count\" AND resource.type=\"pubsub_topic\" AND resource.labels.topic_id=\"${google_pubsub_topic.events.name}\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Events waiting", filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND ${local._subscription_filters.resolve}", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = [] },
    { title = "Age of the oldest event waiting (s)", filter = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND ${local._subscription_filters.resolve}", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = [] },
    { title = "Attempts of resolve, by outcome", filter = local._user_metrics["attempts"], aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["metric.label.outcome"] },
    { title = "Items that an attempt could not store", filter = local._user_metrics["failed-items"], aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Slowest request to Dimmy's API, p99 (ms)", filter = local._user_metrics["api-latency"], aligner = "ALIGN_PERCENTILE_99", reducer = "REDUCE_MAX", by = [] },
    { title = "Attempts in which Dimmy's API failed", filter = local._user_metrics["api-errors"], aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Requests to storage, by method", filter = "metric.type=\"storage.googleapis.com/api/request_count\" AND resource.type=\"gcs_bucket\" AND resource.labels.bucket_name=\"${google_storage_bucket.data.name}\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["metric.label.method"] },
    { title = "Duration of an attempt, p99 (ms)", filter = "metric.type=\"run.googleapis.com/request_latencies\" AND ${local._resolve_filter}", aligner = "ALIGN_PERCENTILE_99", reducer = "REDUCE_MAX", by = [] },
    { title = "Dead letters", filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND ${local._subscription_filters.dead}", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = [] },
    { title = "Items stored by reconcile", filter = local._user_metrics["missed-items"], aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] },
    { title = "Runs of reconcile, by outcome", filter = local._user_metrics["reconciles"], aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["metric.label.outcome"] },
  ]

  _item_charts = [
    for topic in google_pubsub_topic.item_versions :
    { title = "Published items", filter = "metric.type=\"pubsub.googleapis.com/topic/send_message_operation_count\" AND resource.type=\"pubsub_topic\" AND resource.labels.topic_id=\"${topic.name}\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [] }
  ]

  _item_subscription_charts = length(local._item_subscriptions) == 0 ? [] : [
    { title = "Age of the oldest item waiting (s), by subscription", filter = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND ${local._item_filters.items}", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = ["resource.label.subscription_id"] },
    { title = "Dead letters of items, by subscription", filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND ${local._item_filters.dead}", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = ["resource.label.subscription_id"] },
  ]

  _charts = concat(local._event_charts, local._item_charts, local._item_subscription_charts)
}

locals {
  # Cloud Monitoring leaves out what is zero or empty, and a plan would show that as a change for ever.
  _positions = [
    for index in range(length(local._charts)) : {
      for axis, place in { xPos = index % 3 * 4, yPos = floor(index / 3) * 4 } : axis => place if place != 0
    }
  ]
}

resource "google_monitoring_dashboard" "this" {
  project = var.project
  dashboard_json = jsonencode({
    displayName = "Dimmy, ${var.environment}"
    mosaicLayout = {
      columns = 12
      tiles = [
        for index, chart in local._charts : merge(local._positions[index], {
          width  = 4
          height = 4
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [{
                plotType = "LINE"
                timeSeriesQuery = {
                  timeSeriesFilter = {
                    filter = chart.filter
                    aggregation = merge(length(chart.by) == 0 ? {} : { groupByFields = chart.by }, {
                      alignmentPeriod    = "300s"
                      perSeriesAligner   = chart.aligner
                      crossSeriesReducer = chart.reducer
                    })
                  }
                }
              }]
            }
          }
        })
      ]
    }
  })

  depends_on = [google_project_service.required]
}
