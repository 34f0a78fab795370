# Invalid values, each of which its variable must reject.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  project     = "warehouse-1"
  environment = "test"
  archive     = "tests/archive.zip"
}

run "alert_channels_1" {
  command = plan

  variables {
    alert_channels = ["#warehouse"]
  }

  expect_failures = [var.alert_channels]
}

run "allowed_sources_1" {
  command = plan

  variables {
    allowed_sources = ["svix-asia"]
  }

  expect_failures = [var.allowed_sources]
}

run "allowed_sources_2" {
  command = plan

  variables {
    allowed_sources = ["10.0.0.0/33"]
  }

  expect_failures = [var.allowed_sources]
}

run "allowed_sources_3" {
  command = plan

  variables {
    allowed_sources = ["hooks.example.com"]
  }

  expect_failures = [var.allowed_sources]
}

run "allowed_sources_4" {
  command = plan

  variables {
    allowed_sources = ["203.0.113.7/24"]
  }

  expect_failures = [var.allowed_sources]
}

run "allowed_sources_5" {
  command = plan

  variables {
    allowed_sources = ["2001:db8::1/32"]
  }

  expect_failures = [var.allowed_sources]
}

run "archive_1" {
  command = plan

  variables {
    archive = "tests/none.zip"
  }

  expect_failures = [var.archive]
}

run "archive_2" {
  command = plan

  variables {
    archive = "tests"
  }

  expect_failures = [var.archive]
}

run "budget_1" {
  command = plan

  variables {
    budget = { billing_account = "billingAccounts/012345-6789AB-CDEF01", amount = 300, currency = "EUR" }
  }

  expect_failures = [var.budget]
}

run "budget_2" {
  command = plan

  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 0, currency = "EUR" }
  }

  expect_failures = [var.budget]
}

run "budget_3" {
  command = plan

  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 300, currency = "euro" }
  }

  expect_failures = [var.budget]
}

run "budget_4" {
  command = plan

  variables {
    budget       = { billing_account = "012345-6789AB-CDEF01", amount = 300, currency = "EUR" }
    alert_emails = [for number in range(6) : "person-${number}@example.com"]
  }

  expect_failures = [var.budget]
}

run "data_bucket_1" {
  command = plan

  variables {
    data_bucket = "Scans"
  }

  expect_failures = [var.data_bucket]
}

run "data_bucket_2" {
  command = plan

  variables {
    data_bucket = "a"
  }

  expect_failures = [var.data_bucket]
}

run "data_locations_1" {
  command = plan

  variables {
    data_locations = { multi_region = "europe", regions = ["europe-west1", "europe-west4"] }
  }

  expect_failures = [var.data_locations]
}

run "data_locations_2" {
  command = plan

  variables {
    data_locations = { multi_region = "EU", regions = ["europe-west3", "europe-west4"] }
  }

  expect_failures = [var.data_locations]
}

run "data_locations_3" {
  command = plan

  variables {
    data_locations = { multi_region = "EU", regions = ["europe-west1"] }
  }

  expect_failures = [var.data_locations]
}

run "dimmy_api_url_1" {
  command = plan

  variables {
    dimmy_api_url = "http://dimmy.api.optioryx.com"
  }

  expect_failures = [var.dimmy_api_url]
}

run "dimmy_api_url_2" {
  command = plan

  variables {
    dimmy_api_url = "https://user@dimmy.api.optioryx.com"
  }

  expect_failures = [var.dimmy_api_url]
}

run "dimmy_api_url_3" {
  command = plan

  variables {
    dimmy_api_url = ""
  }

  expect_failures = [var.dimmy_api_url]
}

run "dimmy_concurrency_1" {
  command = plan

  variables {
    dimmy_concurrency = 0
  }

  expect_failures = [var.dimmy_concurrency]
}

run "dimmy_concurrency_2" {
  command = plan

  variables {
    dimmy_concurrency = 257
  }

  expect_failures = [var.dimmy_concurrency]
}

run "dimmy_concurrency_3" {
  command = plan

  variables {
    dimmy_concurrency = 1.5
  }

  expect_failures = [var.dimmy_concurrency]
}

run "dimmy_timeout_seconds_1" {
  command = plan

  variables {
    dimmy_timeout_seconds = 0
  }

  expect_failures = [var.dimmy_timeout_seconds]
}

run "dimmy_timeout_seconds_2" {
  command = plan

  variables {
    dimmy_timeout_seconds = 121
  }

  expect_failures = [var.dimmy_timeout_seconds]
}

run "egress_1" {
  command = plan

  variables {
    egress = { range = "10.8.0.0/27" }
  }

  expect_failures = [var.egress]
}

run "egress_2" {
  command = plan

  variables {
    egress = { range = "10.8.0.0" }
  }

  expect_failures = [var.egress]
}

run "egress_3" {
  command = plan

  variables {
    egress = { range = "2001:db8::/20" }
  }

  expect_failures = [var.egress]
}

run "egress_4" {
  command = plan

  variables {
    egress            = { range = "10.8.0.0/26" }
    resolve_instances = { min = 0, max = 14 }
  }

  expect_failures = [var.egress]
}

run "environment_1" {
  command = plan

  variables {
    environment = "Prod"
  }

  expect_failures = [var.environment]
}

run "environment_2" {
  command = plan

  variables {
    environment = "prod_1"
  }

  expect_failures = [var.environment]
}

run "environment_3" {
  command = plan

  variables {
    environment = "fourteen-chars"
  }

  expect_failures = [var.environment]
}

run "environment_4" {
  command = plan

  variables {
    environment = "-x"
  }

  expect_failures = [var.environment]
}

run "event_retention_days_1" {
  command = plan

  variables {
    event_retention_days = 1
  }

  expect_failures = [var.event_retention_days]
}

run "event_retention_days_2" {
  command = plan

  variables {
    event_retention_days = 32
  }

  expect_failures = [var.event_retention_days]
}

run "former_kms_keys_1" {
  command = plan

  variables {
    former_kms_keys = ["scans"]
  }

  expect_failures = [var.former_kms_keys]
}

run "former_kms_keys_2" {
  command = plan

  variables {
    former_kms_keys = ["projects/keys/locations/europe-west1/keyRings/dimmy/cryptoKeys/scans"]
    kms_key         = "projects/keys/locations/europe-west1/keyRings/dimmy/cryptoKeys/scans"
  }

  expect_failures = [var.former_kms_keys]
}

run "item_subscribers_1" {
  command = plan

  variables {
    item_subscribers = { WMS = { endpoint = "https://wms.example.com" } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_2" {
  command = plan

  variables {
    item_subscribers = { wms- = { endpoint = "https://wms.example.com" } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_3" {
  command = plan

  variables {
    item_subscribers = { wms = { endpoint = "http://wms.example.com" } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_4" {
  command = plan

  variables {
    item_subscribers = { wms = { endpoint = "https://user:password@wms.example.com" } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_5" {
  command = plan

  variables {
    item_subscribers = { wms = { endpoint = "https://wms.example.com", audience = "" } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_6" {
  command = plan

  variables {
    item_subscribers = { wms = { endpoint = "https://wms.example.com", flow_ids = [""] } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_7" {
  command = plan

  variables {
    item_subscribers = { wms = { endpoint = "https://wms.example.com", flow_ids = ["a\nb"] } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_8" {
  command = plan

  variables {
    item_subscribers = { wms = { endpoint = "https://wms.example.com", flow_ids = [for number in range(5) : "flow-${number}-of-this-warehouse-with-a-long-name"] } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_9" {
  command = plan

  variables {
    item_subscribers = { wms = { endpoint = "https://wms.example.com", flow_ids = [join("", [for number in range(117) : "ü"])] } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_10" {
  command = plan

  variables {
    item_subscribers = { wms = { endpoint = "https://wms.example.com", ack_deadline_seconds = 601 } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_11" {
  command = plan

  variables {
    item_subscribers = { wms = { endpoint = "https://wms.example.com", min_backoff_seconds = 60, max_backoff_seconds = 30 } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_12" {
  command = plan

  variables {
    item_subscribers = { wms = { endpoint = "https://wms.example.com", max_backoff_seconds = 601 } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_13" {
  command = plan

  variables {
    item_subscribers = { wms = { endpoint = "https://wms.example.com", max_delivery_attempts = 4 } }
  }

  expect_failures = [var.item_subscribers]
}

run "item_subscribers_longest_filter" {
  command = plan

  # 23 bytes around 116 characters of two bytes
  variables {
    item_subscribers = { wms = { endpoint = "https://wms.example.com", flow_ids = [join("", [for number in range(116) : "ü"])] } }
  }
}

run "kms_key_1" {
  command = plan

  variables {
    kms_key = "projects/keys/locations/europe/keyRings/dimmy/cryptoKeys/scans"
  }

  expect_failures = [var.kms_key]
}

run "kms_key_2" {
  command = plan

  variables {
    kms_key = "projects/keys/locations/europe-west1/keyRings/dimmy/cryptoKeys/scans/cryptoKeyVersions/1"
  }

  expect_failures = [var.kms_key]
}

run "kms_key_3" {
  command = plan

  variables {
    kms_key          = "projects/keys/locations/europe-west1/keyRings/dimmy/cryptoKeys/scans"
    secret_locations = ["europe-west1", "europe-west4"]
  }

  expect_failures = [var.kms_key]
}

run "kms_key_4" {
  command = plan

  variables {
    kms_key        = "projects/keys/locations/europe-west1/keyRings/dimmy/cryptoKeys/scans"
    data_locations = { multi_region = "EU", regions = ["europe-west1", "europe-west4"] }
  }

  expect_failures = [var.kms_key]
}

run "load_balancer_1" {
  command = plan

  variables {
    load_balancer = { domain = "https://hooks.example.com" }
  }

  expect_failures = [var.load_balancer]
}

run "load_balancer_2" {
  command = plan

  variables {
    load_balancer = { domain = "hooks.example.com", sources = ["svix-asia"] }
  }

  expect_failures = [var.load_balancer]
}

run "load_balancer_3" {
  command = plan

  variables {
    load_balancer = { domain = "hooks.example.com", sources = [] }
  }

  expect_failures = [var.load_balancer]
}

run "load_balancer_4" {
  command = plan

  variables {
    load_balancer = { domain = "hooks.example.com", sources = ["2001:db8::/32"] }
  }

  expect_failures = [var.load_balancer]
}

run "log_level_1" {
  command = plan

  variables {
    log_level = "WARNING"
  }

  expect_failures = [var.log_level]
}

run "max_delivery_attempts_1" {
  command = plan

  variables {
    max_delivery_attempts = 4
  }

  expect_failures = [var.max_delivery_attempts]
}

run "max_delivery_attempts_2" {
  command = plan

  variables {
    max_delivery_attempts = 101
  }

  expect_failures = [var.max_delivery_attempts]
}

run "old_version_retention_days_1" {
  command = plan

  variables {
    old_version_retention_days = 0
  }

  expect_failures = [var.old_version_retention_days]
}

run "payload_retention_days_1" {
  command = plan

  variables {
    payload_retention_days = 62
  }

  expect_failures = [var.payload_retention_days]
}

run "photo_hosts_1" {
  command = plan

  variables {
    photo_hosts = []
  }

  expect_failures = [var.photo_hosts]
}

run "photo_hosts_2" {
  command = plan

  variables {
    photo_hosts = ["https://dimmy.s3.amazonaws.com"]
  }

  expect_failures = [var.photo_hosts]
}

run "photo_hosts_3" {
  command = plan

  variables {
    photo_hosts = ["10.0.0.1"]
  }

  expect_failures = [var.photo_hosts]
}

run "photos_1" {
  command = plan

  variables {
    photos = "delete"
  }

  expect_failures = [var.photos]
}

run "project_1" {
  command = plan

  variables {
    project = "My Project"
  }

  expect_failures = [var.project]
}

run "project_2" {
  command = plan

  variables {
    project = "123456789012"
  }

  expect_failures = [var.project]
}

run "receipt_retention_days_1" {
  command = plan

  variables {
    receipt_retention_days = 62
  }

  expect_failures = [var.receipt_retention_days]
}

run "receipt_retention_days_2" {
  command = plan

  variables {
    receipt_retention_days = 63.5
  }

  expect_failures = [var.receipt_retention_days]
}

run "receive_instances_1" {
  command = plan

  variables {
    receive_instances = { min = 2, max = 1 }
  }

  expect_failures = [var.receive_instances]
}

run "receive_instances_2" {
  command = plan

  variables {
    receive_instances = { min = 0, max = 0 }
  }

  expect_failures = [var.receive_instances]
}

run "reconcile_ingress_1" {
  command = plan

  variables {
    reconcile_ingress = "ALLOW_INTERNAL_AND_GCLB"
  }

  expect_failures = [var.reconcile_ingress]
}

run "reconcile_schedules_1" {
  command = plan

  variables {
    reconcile_schedules = { hourly = { schedule = "hourly", hours = 6 } }
  }

  expect_failures = [var.reconcile_schedules]
}

run "reconcile_schedules_2" {
  command = plan

  variables {
    reconcile_schedules = { hourly = { schedule = "17 * * * *", hours = 0 } }
  }

  expect_failures = [var.reconcile_schedules]
}

run "region_1" {
  command = plan

  variables {
    region = "europe"
  }

  expect_failures = [var.region]
}

run "region_2" {
  command = plan

  variables {
    region = "europe-west1-b"
  }

  expect_failures = [var.region]
}

run "resolve_instances_1" {
  command = plan

  variables {
    resolve_instances = { min = 2, max = 1 }
  }

  expect_failures = [var.resolve_instances]
}

run "resolve_instances_2" {
  command = plan

  variables {
    resolve_instances = { min = -1, max = 1 }
  }

  expect_failures = [var.resolve_instances]
}

run "runtime_1" {
  command = plan

  variables {
    runtime = "python311"
  }

  expect_failures = [var.runtime]
}

run "runtime_2" {
  command = plan

  variables {
    runtime = "nodejs22"
  }

  expect_failures = [var.runtime]
}

run "scheduler_region_1" {
  command = plan

  variables {
    scheduler_region = "EU"
  }

  expect_failures = [var.scheduler_region]
}

run "secret_locations_1" {
  command = plan

  variables {
    secret_locations = ["europe-west1", "eu"]
  }

  expect_failures = [var.secret_locations]
}

run "secret_versions_1" {
  command = plan

  variables {
    secret_versions = { api_key = "latest", signing_secrets = "1" }
  }

  expect_failures = [var.secret_versions]
}

run "secret_versions_2" {
  command = plan

  variables {
    secret_versions = { api_key = "1", signing_secrets = "0" }
  }

  expect_failures = [var.secret_versions]
}

run "soft_delete_days_1" {
  command = plan

  variables {
    soft_delete_days = 6
  }

  expect_failures = [var.soft_delete_days]
}

run "soft_delete_days_2" {
  command = plan

  variables {
    soft_delete_days = 91
  }

  expect_failures = [var.soft_delete_days]
}

run "alert_emails_1" {
  command = plan

  variables {
    alert_emails = ["nobody"]
  }

  expect_failures = [var.alert_emails]
}

run "silence_alert_hours_1" {
  command = plan

  variables {
    silence_alert_hours = 24
  }

  expect_failures = [var.silence_alert_hours]
}
