# Each optional part, enabled. In the first run and in all other tests they are disabled.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  project     = "warehouse-1"
  environment = "test"
  archive     = "tests/archive.zip"
}

run "nothing_optional" {
  command = plan

  assert {
    condition = (
      length(google_bigquery_dataset.scans) + length(google_bigquery_table.messages) + length(google_bigquery_table.view) == 0
      && length(google_pubsub_topic.item_versions) + length(google_pubsub_topic.event_attempts) + length(google_logging_project_sink.event_attempts) == 0
      && length(google_pubsub_subscription.bigquery) + length(google_pubsub_subscription.archive) + length(google_pubsub_subscription.subscriber) == 0
      && keys(google_pubsub_subscription.dead_letters) == ["resolve"] && length(google_billing_budget.this) == 0
      && keys(google_cloudfunctions2_function.this) == ["receive", "reconcile", "resolve"]
      && length(google_kms_crypto_key_iam_member.agent) == 0 && google_artifact_registry_repository.images.repository_id == "dimmy-test-functions"
      && length(google_compute_security_policy.receive) + length(google_compute_global_forwarding_rule.receive) == 0
      && length(google_compute_network.egress) + length(google_compute_router_nat.egress) + length(google_compute_address.egress) == 0
      && alltrue([for function in google_cloudfunctions2_function.this : length(function.service_config[0].direct_vpc_network_interface) == 0])
    )
    error_message = "Optional parts are disabled by default."
  }

  assert {
    condition     = !contains(keys(google_cloudfunctions2_function.this["receive"].service_config[0].environment_variables), "ALLOWED_SOURCES")
    error_message = "Without a list of sources the setting is omitted."
  }

  assert {
    condition     = alltrue([for name in ["resolve", "reconcile"] : !contains(keys(google_cloudfunctions2_function.this[name].service_config[0].environment_variables), "ITEMS_TOPIC")])
    error_message = "Without the topic nothing is published."
  }

  assert {
    condition     = output.webhook_url == "https://receive.a.run.app" && output.items_topic == null && output.bigquery_dataset == null && output.archive_subscription == null && length(output.item_dead_letter_subscriptions) == 0 && output.load_balancer_address == null && output.certificate == null && output.receive_url_open && length(google_storage_bucket.data.custom_placement_config) == 0
    error_message = "The webhook URL is the URL of receive."
  }
}

run "every_setting" {
  command = plan

  variables {
    allowed_sources = ["svix-eu", "203.0.113.7", "2001:db8::/32"]
    photos          = "archive"
  }

  assert {
    condition     = google_cloudfunctions2_function.this["receive"].service_config[0].environment_variables["ALLOWED_SOURCES"] == "svix-eu 203.0.113.7 2001:db8::/32"
    error_message = "receive gets the list of sources."
  }
}

run "items_topic" {
  command = plan

  variables {
    items_topic = true
  }

  assert {
    condition     = google_pubsub_topic.item_versions[0].name == "dimmy-test-item-versions" && keys(google_pubsub_subscription.dead_letters) == ["resolve"]
    error_message = "The topic exists, without a subscription."
  }

  assert {
    condition = alltrue([
      for name in ["resolve", "reconcile"] :
      google_cloudfunctions2_function.this[name].service_config[0].environment_variables["ITEMS_TOPIC"] == "projects/warehouse-1/topics/dimmy-test-item-versions"
    ])
    error_message = "resolve and reconcile publish to it."
  }

  assert {
    condition     = output.items_topic == "projects/warehouse-1/topics/dimmy-test-item-versions"
    error_message = "The topic is an output."
  }
}

run "load_balancer" {
  command = plan

  variables {
    load_balancer = { domain = "hooks.example.com" }
  }

  assert {
    condition = [
      for rule in google_compute_security_policy.receive["this"].rule : rule.priority if rule.action == "allow"
    ] == [1000]
    error_message = "One rule admits Svix's nine IPv4 ranges."
  }

  assert {
    condition     = length(google_compute_global_forwarding_rule.receive_ipv6) == 0 && output.load_balancer_ipv6_address == null
    error_message = "An IPv6 address has to be asked for."
  }

  assert {
    condition = [
      for rule in google_compute_security_policy.receive["this"].rule : rule.action if rule.priority == 2147483647
    ] == ["deny(403)"]
    error_message = "All other addresses are refused."
  }

  assert {
    condition     = google_compute_backend_service.receive["this"].load_balancing_scheme == "EXTERNAL_MANAGED" && google_compute_region_network_endpoint_group.receive["this"].cloud_run[0].service == "dimmy-test-receive"
    error_message = "The load balancer forwards to receive."
  }

  assert {
    condition     = google_compute_global_forwarding_rule.receive["this"].port_range == "443" && google_compute_managed_ssl_certificate.receive["this"].managed[0].domains == tolist(["hooks.example.com"])
    error_message = "It serves HTTPS only, with a certificate for the domain."
  }

  assert {
    condition     = output.webhook_url == "https://hooks.example.com/"
    error_message = "The webhook URL is on the domain."
  }

  assert {
    condition     = contains(keys(google_project_service.required), "compute")
    error_message = "A load balancer needs the Compute Engine API."
  }
}

run "load_balancer_ipv6" {
  command = plan

  variables {
    load_balancer = { domain = "hooks.example.com", ipv6 = true }
  }

  assert {
    condition = [
      for rule in google_compute_security_policy.receive["this"].rule : rule.priority if rule.action == "allow"
    ] == [1000, 1001]
    error_message = "Svix's twelve ranges need two rules: a rule accepts ten."
  }

  assert {
    condition = (
      google_compute_global_address.receive_ipv6["this"].ip_version == "IPV6"
      && google_compute_global_forwarding_rule.receive_ipv6["this"].ip_address == "the-ipv6-address"
      && google_compute_global_forwarding_rule.receive_ipv6["this"].target == "the-proxy"
      && google_compute_global_forwarding_rule.receive_ipv6["this"].port_range == "443"
    )
    error_message = "The IPv6 address leads to the same load balancer."
  }

  assert {
    condition     = google_compute_global_forwarding_rule.receive["this"].ip_address == "the-ipv4-address"
    error_message = "The IPv4 address stays."
  }
}

run "load_balancer_sources" {
  command = plan

  variables {
    load_balancer = { domain = "hooks.example.com", sources = ["203.0.113.0/24"] }
  }

  assert {
    condition = flatten([
      for rule in google_compute_security_policy.receive["this"].rule : tolist(one(one(rule.match).config).src_ip_ranges) if rule.action == "allow"
    ]) == ["203.0.113.0/24"]
    error_message = "A list of sources replaces Svix's addresses."
  }
}

run "bigquery" {
  command = plan

  variables {
    bigquery = true
  }

  assert {
    condition = alltrue([
      for table in google_bigquery_table.messages : (
        [for column in jsondecode(table.schema) : "${column.name} ${column.type}"] == ["subscription_name STRING", "message_id STRING", "publish_time TIMESTAMP", "data JSON", "attributes JSON"]
        && table.time_partitioning[0].type == "DAY" && table.time_partitioning[0].field == "publish_time"
        && table.deletion_protection && table.deletion_policy == "PREVENT"
      )
    ])
    error_message = "The tables have the columns of a BigQuery subscription, a partition for each day, and cannot be deleted by accident."
  }

  assert {
    condition = {
      for name, subscription in google_pubsub_subscription.bigquery : name => "${subscription.topic} ${subscription.bigquery_config[0].table}"
      } == {
      event-attempts-bigquery = "projects/warehouse-1/topics/dimmy-test-event-attempts warehouse-1.dimmy_test.event_attempts"
      item-versions-bigquery  = "projects/warehouse-1/topics/dimmy-test-item-versions warehouse-1.dimmy_test.item_versions"
    }
    error_message = "Each topic is written into its table."
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.bigquery : (
        subscription.bigquery_config[0].write_metadata == true
        && coalesce(subscription.bigquery_config[0].use_table_schema, false) == false
        && coalesce(subscription.bigquery_config[0].use_topic_schema, false) == false
      )
    ])
    error_message = "A message is written as it is, with its id and its time."
  }

  assert {
    condition = (
      google_bigquery_dataset_iam_member.agent_writes_rows[0].role == "roles/bigquery.dataEditor"
      && google_bigquery_dataset_iam_member.agent_writes_rows[0].dataset_id == "dimmy_test"
      && google_bigquery_dataset_iam_member.agent_writes_rows[0].member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
    )
    error_message = "Pub/Sub's service agent writes into this dataset, and into no other."
  }

  assert {
    condition = (
      google_logging_project_sink.event_attempts[0].destination == "pubsub.googleapis.com/projects/warehouse-1/topics/dimmy-test-event-attempts"
      && google_logging_project_sink.event_attempts[0].filter == "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"dimmy-test-resolve\" AND jsonPayload.message=~\"^event \""
      && google_pubsub_topic_iam_member.sink_publishes_attempts[0].member == "serviceAccount:service-123456789012@gcp-sa-logging.iam.gserviceaccount.com"
      && google_pubsub_topic_iam_member.sink_publishes_attempts[0].role == "roles/pubsub.publisher"
    )
    error_message = "Cloud Logging publishes resolve's attempts at events, and nothing else."
  }

  assert {
    condition     = alltrue([for name, table in { items = "item_versions", events = "event_attempts" } : strcontains(google_bigquery_table.view[name].view[0].query, "`warehouse-1.dimmy_test.${table}`")])
    error_message = "The views read the tables."
  }

  assert {
    condition     = alltrue([for view in google_bigquery_table.view : view.view[0].use_legacy_sql == false && view.deletion_protection == false])
    error_message = "The views use GoogleSQL."
  }

  assert {
    condition     = contains(keys(google_project_service.required), "bigquery") && output.bigquery_dataset == "warehouse-1.dimmy_test" && keys(output.bigquery_subscriptions) == ["event-attempts-bigquery", "item-versions-bigquery"] && output.items_topic != null
    error_message = "BigQuery needs its API and the topic of items; the dataset and its subscriptions are outputs."
  }
}

run "bigquery_unprotected" {
  command = plan

  variables {
    bigquery            = true
    deletion_protection = false
  }

  assert {
    condition = google_bigquery_dataset.scans[0].delete_contents_on_destroy && google_bigquery_dataset.scans[0].deletion_policy == "DELETE" && alltrue([
      for table in google_bigquery_table.messages : table.deletion_protection == false && table.deletion_policy == "DELETE"
    ])
    error_message = "Without deletion protection the dataset can be deleted with its tables."
  }
}

run "budget" {
  command = plan

  variables {
    alert_emails   = ["warehouse-it@example.com"]
    alert_channels = ["projects/warehouse-1/notificationChannels/1234"]
    budget         = { billing_account = "012345-6789AB-CDEF01", amount = 300, currency = "EUR" }
  }

  assert {
    condition = (
      google_billing_budget.this[0].billing_account == "012345-6789AB-CDEF01"
      && google_billing_budget.this[0].budget_filter[0].projects == toset(["projects/123456789012"])
      && google_billing_budget.this[0].amount[0].specified_amount[0].units == "300"
      && google_billing_budget.this[0].amount[0].specified_amount[0].currency_code == "EUR"
    )
    error_message = "The budget is that of the project only."
  }

  assert {
    condition = [
      for rule in google_billing_budget.this[0].threshold_rules : "${rule.threshold_percent} ${coalesce(rule.spend_basis, "CURRENT_SPEND")}"
    ] == ["0.5 CURRENT_SPEND", "0.9 CURRENT_SPEND", "1 CURRENT_SPEND", "1 FORECASTED_SPEND"]
    error_message = "It warns before the amount is spent."
  }

  assert {
    condition     = google_billing_budget.this[0].all_updates_rule[0].monitoring_notification_channels == tolist(["the-email-channel"])
    error_message = "It notifies the addresses, and no channel of another kind."
  }

  assert {
    condition     = contains(keys(google_project_service.required), "billingbudgets")
    error_message = "A budget needs its API."
  }
}

run "egress" {
  command = plan

  variables {
    egress = {}
  }

  assert {
    condition = {
      for name, function in google_cloudfunctions2_function.this : name => one([
        for interface in function.service_config[0].direct_vpc_network_interface :
        "${interface.network} ${interface.subnetwork} ${function.service_config[0].direct_vpc_egress}"
      ])
      } == {
      receive   = null
      resolve   = "dimmy-test-egress dimmy-test-egress-10-8-0-0 VPC_EGRESS_ALL_TRAFFIC"
      reconcile = "dimmy-test-egress dimmy-test-egress-10-8-0-0 VPC_EGRESS_ALL_TRAFFIC"
    }
    error_message = "All traffic of the functions that call Dimmy's API leaves through the network."
  }

  assert {
    condition = {
      for name, function in google_cloudfunctions2_function.this : name => function.service_config[0].ingress_settings
    } == { receive = "ALLOW_ALL", resolve = "ALLOW_INTERNAL_ONLY", reconcile = "ALLOW_ALL" }
    error_message = "The way to the functions stays the same."
  }

  assert {
    condition = (
      google_compute_subnetwork.egress["this"].ip_cidr_range == "10.8.0.0/24"
      && google_compute_subnetwork.egress["this"].private_ip_google_access
      && google_compute_subnetwork.egress["this"].network == "the-egress-network"
      && google_compute_router.egress["this"].network == "the-egress-network"
      && google_compute_router_nat.egress["this"].router == "dimmy-test-egress"
    )
    error_message = "Storage is reached without the NAT, everything else through it."
  }

  assert {
    condition = (
      google_compute_router_nat.egress["this"].nat_ip_allocate_option == "MANUAL_ONLY"
      && google_compute_router_nat.egress["this"].nat_ips == toset(["the-egress-address"])
      && google_compute_router_nat.egress["this"].source_subnetwork_ip_ranges_to_nat == "ALL_SUBNETWORKS_ALL_PRIMARY_IP_RANGES"
    )
    error_message = "The NAT has the one reserved address."
  }

  assert {
    condition     = google_compute_router_nat.egress["this"].enable_dynamic_port_allocation && google_compute_router_nat.egress["this"].max_ports_per_vm >= 512
    error_message = "An instance has enough ports for 256 requests at once."
  }

  assert {
    condition     = output.egress_address == "203.0.113.10" && contains(keys(google_project_service.required), "compute")
    error_message = "The address is an output; it needs the Compute Engine API."
  }
}

run "kms_key" {
  command = plan

  variables {
    bigquery         = true
    photos           = "archive"
    item_subscribers = { wms = { endpoint = "https://wms.example.com/items", audience = "https://wms.example.com" } }
    kms_key          = "projects/keys/locations/europe-west1/keyRings/dimmy/cryptoKeys/scans"
  }

  assert {
    condition = alltrue(concat(
      [for topic in concat([google_pubsub_topic.events, google_pubsub_topic.item_versions[0], google_pubsub_topic.event_attempts[0]], values(google_pubsub_topic.dead_letters)) : topic.kms_key_name == var.kms_key],
      [for bucket in [google_storage_bucket.data, google_storage_bucket.sources] : bucket.encryption[0].default_kms_key_name == var.kms_key],
      [for secret in google_secret_manager_secret.this : secret.replication[0].user_managed[0].replicas[0].customer_managed_encryption[0].kms_key_name == var.kms_key],
      [for function in google_cloudfunctions2_function.this : function.kms_key_name == var.kms_key],
      [google_artifact_registry_repository.images.kms_key_name == var.kms_key],
      [google_bigquery_dataset.scans[0].default_encryption_configuration[0].kms_key_name == var.kms_key],
      [for table in google_bigquery_table.messages : table.encryption_configuration[0].kms_key_name == var.kms_key],
    ))
    error_message = "Everything that is stored is encrypted with the key."
  }

  assert {
    condition     = google_artifact_registry_repository.images.repository_id == "dimmy-test-functions-${substr(sha256(var.kms_key), 0, 8)}"
    error_message = "The encrypted images have a repository of their own."
  }

  assert {
    condition     = alltrue([for api in ["cloudkms", "eventarc"] : contains(keys(google_project_service.required), api)])
    error_message = "Roles on the key need its API, and functions with a key a service agent of Eventarc."
  }
}

run "former_kms_keys" {
  command = plan

  variables {
    kms_key         = "projects/keys/locations/europe-west1/keyRings/dimmy/cryptoKeys/new"
    former_kms_keys = ["projects/keys/locations/europe-west1/keyRings/dimmy/cryptoKeys/old"]
  }

  assert {
    condition = {
      for agent in google_kms_crypto_key_iam_member.agent : agent.crypto_key_id => agent.member...
      if strcontains(agent.member, "gs-project-accounts")
      } == {
      "projects/keys/locations/europe-west1/keyRings/dimmy/cryptoKeys/new" = ["serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com"]
      "projects/keys/locations/europe-west1/keyRings/dimmy/cryptoKeys/old" = ["serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com"]
    }
    error_message = "What the old key encrypted can still be read."
  }
}

run "region" {
  command = plan

  variables {
    region   = "europe-west3"
    bigquery = true
  }

  assert {
    condition = alltrue([
      for topic in concat([google_pubsub_topic.events, google_pubsub_topic.item_versions[0], google_pubsub_topic.event_attempts[0]], values(google_pubsub_topic.dead_letters)) :
      one(topic.message_storage_policy).allowed_persistence_regions == toset(["europe-west3"])
    ])
    error_message = "Messages are stored in the region only."
  }

  assert {
    condition = alltrue([
      for secret in google_secret_manager_secret.this :
      tolist(one(one(secret.replication).user_managed).replicas[*].location) == tolist(["europe-west3"])
    ])
    error_message = "Secrets are kept in the region."
  }
}

run "data_locations" {
  command = plan

  variables {
    region         = "europe-west3"
    bigquery       = true
    data_locations = { multi_region = "EU", regions = ["europe-west3", "europe-west4"] }
  }

  assert {
    condition = (
      google_storage_bucket.data.location == "EU"
      && one(google_storage_bucket.data.custom_placement_config).data_locations == toset(["EUROPE-WEST3", "EUROPE-WEST4"])
      && google_storage_bucket.data.deletion_policy == "PREVENT"
    )
    error_message = "The scans are stored in two regions, which cannot be changed by accident."
  }

  assert {
    condition     = google_storage_bucket.sources.location == "europe-west3" && google_bigquery_dataset.scans[0].location == "europe-west3"
    error_message = "Everything else stays in the region."
  }
}

run "secret_locations" {
  command = plan

  variables {
    secret_locations = ["europe-west3", "europe-west4"]
  }

  assert {
    condition = alltrue([
      for secret in google_secret_manager_secret.this :
      tolist(one(one(secret.replication).user_managed).replicas[*].location) == tolist(["europe-west3", "europe-west4"])
    ])
    error_message = "Secrets are kept in these regions."
  }
}
