# Callers, roles and secrets of the functions.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  project     = "warehouse-1"
  environment = "test"
  archive     = "tests/archive.zip"
}

run "access" {
  command = plan

  assert {
    condition = {
      for name, member in google_cloud_run_service_iam_member.invoker : name => "${member.role} ${member.service} ${member.member}"
      } == {
      receive   = "roles/run.invoker dimmy-test-receive allUsers"
      resolve   = "roles/run.invoker dimmy-test-resolve serviceAccount:pusher@warehouse-1.iam.gserviceaccount.com"
      reconcile = "roles/run.invoker dimmy-test-reconcile serviceAccount:scheduler@warehouse-1.iam.gserviceaccount.com"
    }
    error_message = "Only receive is public; only the pusher calls resolve, only the scheduler calls reconcile."
  }

  assert {
    condition = {
      for name, function in google_cloudfunctions2_function.this : name => function.service_config[0].ingress_settings
    } == { receive = "ALLOW_ALL", resolve = "ALLOW_INTERNAL_ONLY", reconcile = "ALLOW_ALL" }
    error_message = "Only receive and reconcile accept traffic from outside."
  }

  assert {
    condition = alltrue([
      for name, account in { receive = "receiver", resolve = "resolver", reconcile = "reconciler" } :
      google_cloudfunctions2_function.this[name].service_config[0].service_account_email == "${account}@warehouse-1.iam.gserviceaccount.com"
    ])
    error_message = "Each function runs as its own service account."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.this :
      function.build_config[0].service_account == "projects/warehouse-1/serviceAccounts/builder@warehouse-1.iam.gserviceaccount.com"
    ])
    error_message = "The builder builds every function: the default service account may lack permissions, or have too many."
  }

  assert {
    condition = alltrue([
      for bucket in [google_storage_bucket.data, google_storage_bucket.sources] :
      bucket.uniform_bucket_level_access && bucket.public_access_prevention == "enforced"
    ])
    error_message = "No bucket can become public."
  }

  assert {
    condition = {
      for name, function in google_cloudfunctions2_function.this : name => [
        for secret in function.service_config[0].secret_environment_variables : "${secret.key} ${secret.secret} ${secret.version}"
      ]
      } == {
      receive   = ["SIGNING_SECRETS dimmy-test-signing-secrets 1"]
      resolve   = ["DIMMY_API_KEY dimmy-test-api-key 1"]
      reconcile = ["DIMMY_API_KEY dimmy-test-api-key 1"]
    }
    error_message = "Each function gets only the secrets that it reads, in a numbered version."
  }
}

run "internal_reconcile" {
  command = plan

  variables {
    reconcile_ingress = "ALLOW_INTERNAL_ONLY"
  }

  assert {
    condition = {
      for name, function in google_cloudfunctions2_function.this : name => function.service_config[0].ingress_settings
    } == { receive = "ALLOW_ALL", resolve = "ALLOW_INTERNAL_ONLY", reconcile = "ALLOW_INTERNAL_ONLY" }
    error_message = "Only receive accepts traffic from outside."
  }

  assert {
    condition     = output.reconcile_ingress == "ALLOW_INTERNAL_ONLY"
    error_message = "The output names the setting, for `make backfill`."
  }
}

run "behind_a_load_balancer" {
  command = plan

  variables {
    load_balancer = { domain = "hooks.example.com" }
  }

  assert {
    condition     = google_cloudfunctions2_function.this["receive"].service_config[0].ingress_settings == "ALLOW_INTERNAL_AND_GCLB"
    error_message = "Requests from outside reach receive only through the load balancer."
  }

  assert {
    condition     = google_cloudfunctions2_function.this["receive"].service_config[0].environment_variables["TRUSTED_PROXY_HOPS"] == "2"
    error_message = "The load balancer adds one trusted proxy hop."
  }

  assert {
    condition     = !output.receive_url_open && startswith(output.certificate, "dimmy-test-receive-")
    error_message = "The load balancer is the only way to receive; its certificate is an output."
  }
}

run "open_beside_a_load_balancer" {
  command = plan

  variables {
    load_balancer    = { domain = "hooks.example.com" }
    receive_url_open = true
  }

  assert {
    condition     = google_cloudfunctions2_function.this["receive"].service_config[0].ingress_settings == "ALLOW_ALL"
    error_message = "receive's own URL stays open."
  }

  assert {
    condition     = google_cloudfunctions2_function.this["receive"].service_config[0].environment_variables["TRUSTED_PROXY_HOPS"] == "1"
    error_message = "A caller of receive's own URL cannot choose the address that is checked."
  }

  assert {
    condition     = output.receive_url_open && output.webhook_url == "https://hooks.example.com/"
    error_message = "Both URLs are outputs."
  }
}

run "no_public_invoker" {
  command = plan

  variables {
    public_invoker = false
  }

  assert {
    condition     = keys(google_cloud_run_service_iam_member.invoker) == ["reconcile", "resolve"]
    error_message = "No role is granted to allUsers."
  }
}

run "access_with_options" {
  command = plan

  variables {
    bigquery         = true
    photos           = "archive"
    item_subscribers = { wms = { endpoint = "https://wms.example.com/items", audience = "https://wms.example.com" } }
  }

  assert {
    condition = (
      google_cloud_run_service_iam_member.invoker["archive"].service == "dimmy-test-archive"
      && google_cloud_run_service_iam_member.invoker["archive"].role == "roles/run.invoker"
      && google_cloud_run_service_iam_member.invoker["archive"].member == "serviceAccount:pusher@warehouse-1.iam.gserviceaccount.com"
      && google_cloudfunctions2_function.this["archive"].service_config[0].ingress_settings == "ALLOW_INTERNAL_ONLY"
    )
    error_message = "Only the pusher calls archive."
  }

  assert {
    condition = (
      google_cloudfunctions2_function.this["archive"].service_config[0].service_account_email == "archiver@warehouse-1.iam.gserviceaccount.com"
      && length(google_cloudfunctions2_function.this["archive"].service_config[0].secret_environment_variables) == 0
    )
    error_message = "archive runs as its own service account, without any secret."
  }
}
