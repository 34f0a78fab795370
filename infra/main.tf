# What `make` deploys: one installation in a project.

module "dimmy" {
  source = "./modules/dimmy"

  alert_channels             = var.alert_channels
  alert_emails               = var.alert_emails
  allowed_sources            = var.allowed_sources
  archive                    = var.archive
  bigquery                   = var.bigquery
  budget                     = var.budget
  data_bucket                = var.data_bucket
  data_locations             = var.data_locations
  deletion_protection        = var.deletion_protection
  dimmy_api_url              = var.dimmy_api_url
  dimmy_concurrency          = var.dimmy_concurrency
  dimmy_timeout_seconds      = var.dimmy_timeout_seconds
  egress                     = var.egress
  environment                = var.environment
  event_retention_days       = var.event_retention_days
  former_kms_keys            = var.former_kms_keys
  item_subscribers           = var.item_subscribers
  items_topic                = var.items_topic
  kms_key                    = var.kms_key
  load_balancer              = var.load_balancer
  log_level                  = var.log_level
  max_delivery_attempts      = var.max_delivery_attempts
  old_version_retention_days = var.old_version_retention_days
  payload_retention_days     = var.payload_retention_days
  photo_hosts                = var.photo_hosts
  photos                     = var.photos
  project                    = var.project
  public_invoker             = var.public_invoker
  receipt_retention_days     = var.receipt_retention_days
  receive_instances          = var.receive_instances
  receive_url_open           = var.receive_url_open
  reconcile_ingress          = var.reconcile_ingress
  reconcile_schedules        = var.reconcile_schedules
  region                     = var.region
  resolve_instances          = var.resolve_instances
  runtime                    = var.runtime
  scheduler_region           = var.scheduler_region
  secret_locations           = var.secret_locations
  secret_versions            = var.secret_versions
  silence_alert_hours        = var.silence_alert_hours
  soft_delete_days           = var.soft_delete_days
}
