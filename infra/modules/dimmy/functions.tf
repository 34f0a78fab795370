# The functions, from one package. Only `receive` is public.

locals {
  # In this order: resolve or archive ends its attempt, the function times out, Pub/Sub delivers the message again.
  # So a repeated attempt normally begins after the one before has ended.
  _attempt_seconds      = 500
  _push_timeout_seconds = 540
  _ack_deadline_seconds = 600

  # The longest that Cloud Scheduler waits.
  _reconcile_timeout_seconds = 1800
  _reconcile_attempt_seconds = 1740

  _log_settings = {
    GOOGLE_CLOUD_PROJECT = var.project
    LOG_FORMAT           = "json"
    LOG_LEVEL            = var.log_level
  }

  _api_settings = {
    DIMMY_API_URL         = var.dimmy_api_url
    DIMMY_CONCURRENCY     = tostring(var.dimmy_concurrency)
    DIMMY_TIMEOUT_SECONDS = tostring(var.dimmy_timeout_seconds)
    # By name: an attribute that is unknown at plan time would make all settings unknown, which the provider
    # cannot apply to an existing function.
    ITEMS_TOPIC = local._has_items_topic ? "projects/${var.project}/topics/${local._items_topic}" : ""
    STORAGE_URL = "gs://${google_storage_bucket.data.name}"
  }

  _receive_is_open = var.load_balancer == null || var.receive_url_open

  _all_functions = {
    receive = {
      account         = "receiver"
      description     = "Verifies Dimmy's webhooks and publishes them"
      concurrency     = 100
      memory          = "512Mi"
      min_instances   = var.receive_instances.min
      max_instances   = var.receive_instances.max
      timeout_seconds = 60
      ingress         = local._receive_is_open ? "ALLOW_ALL" : "ALLOW_INTERNAL_AND_GCLB"
      egress          = {}
      secrets         = { SIGNING_SECRETS = "signing_secrets" }
      settings = {
        ALLOWED_SOURCES = join(" ", var.allowed_sources)
        EVENTS_TOPIC    = google_pubsub_topic.events.id
        STORAGE_URL     = "gs://${google_storage_bucket.data.name}"
        # With 2, a caller of receive's own URL could choose the address that is checked.
        TRUSTED_PROXY_HOPS = local._receive_is_open ? "1" : "2"
      }
    }
    resolve = {
      account         = "resolver"
      description     = "Fetches the items of an event and stores them"
      concurrency     = 8
      memory          = "1Gi"
      min_instances   = var.resolve_instances.min
      max_instances   = var.resolve_instances.max
      timeout_seconds = local._push_timeout_seconds
      ingress         = "ALLOW_INTERNAL_ONLY"
      egress          = local._egress
      secrets         = { DIMMY_API_KEY = "api_key" }
      settings = merge(local._api_settings, {
        ATTEMPT_SECONDS = tostring(local._attempt_seconds)
      })
    }
    reconcile = {
      account         = "reconciler"
      description     = "Polls Dimmy's API for scans whose webhook never arrived"
      concurrency     = 1
      memory          = "2Gi"
      min_instances   = 0
      max_instances   = 2
      timeout_seconds = local._reconcile_timeout_seconds
      # By default operators call it from their own machines (`make backfill`); run.invoker decides who may.
      ingress = var.reconcile_ingress
      egress  = local._egress
      secrets = { DIMMY_API_KEY = "api_key" }
      settings = merge(local._api_settings, {
        ATTEMPT_SECONDS = tostring(local._reconcile_attempt_seconds)
      })
    }
    archive = {
      account         = "archiver"
      description     = "Stores the photos of items"
      concurrency     = 8
      memory          = "1Gi"
      min_instances   = 0
      max_instances   = 4
      timeout_seconds = local._push_timeout_seconds
      ingress         = "ALLOW_INTERNAL_ONLY"
      egress          = {}
      secrets         = {}
      settings = {
        ATTEMPT_SECONDS = tostring(local._attempt_seconds)
        PHOTO_HOSTS     = join(" ", var.photo_hosts)
        STORAGE_URL     = "gs://${google_storage_bucket.data.name}"
      }
    }
  }

  _functions = { for name, function in local._all_functions : name => function if name != "archive" || local._archives_photos }

  # The caller of each function. Operators call reconcile, too, with a role of their own.
  _invokers = merge(
    var.public_invoker ? { receive = "allUsers" } : {},
    local._archives_photos ? { archive = local._members["pusher"] } : {},
    {
      resolve   = local._members["pusher"]
      reconcile = local._members["scheduler"]
    },
  )
}

resource "google_cloudfunctions2_function" "this" {
  # checkov:skip=CKV_GCP_124: receive is public, and operators call reconcile, whom IAM authorises
  for_each = local._functions

  project     = var.project
  name        = "${local._prefix}-${each.key}"
  location    = var.region
  description = each.value.description

  kms_key_name = var.kms_key

  labels = { version = substr(local._archive_sha256, 0, 16) }

  build_config {
    runtime           = var.runtime
    entry_point       = each.key
    service_account   = google_service_account.this["builder"].id
    docker_repository = google_artifact_registry_repository.images.id

    source {
      storage_source {
        bucket = google_storage_bucket.sources.name
        object = google_storage_bucket_object.archive.name
      }
    }
  }

  service_config {
    service_account_email            = google_service_account.this[each.value.account].email
    ingress_settings                 = each.value.ingress
    timeout_seconds                  = each.value.timeout_seconds
    available_cpu                    = "1"
    available_memory                 = each.value.memory
    max_instance_request_concurrency = each.value.concurrency
    min_instance_count               = each.value.min_instances
    max_instance_count               = each.value.max_instances
    direct_vpc_egress                = length(each.value.egress) == 0 ? null : "VPC_EGRESS_ALL_TRAFFIC"

    # By name: Cloud Functions returns what it was given, and the provider compares the text.
    dynamic "direct_vpc_network_interface" {
      for_each = each.value.egress

      content {
        network    = google_compute_network.egress[direct_vpc_network_interface.key].name
        subnetwork = google_compute_subnetwork.egress[direct_vpc_network_interface.key].name
      }
    }

    # The server reads THREADS: a synchronous function handles one request per thread.
    environment_variables = merge(
      local._log_settings,
      { for name, value in each.value.settings : name => value if value != "" },
      each.key == "receive" ? {} : { THREADS = tostring(each.value.concurrency) },
    )

    dynamic "secret_environment_variables" {
      for_each = each.value.secrets
      iterator = secret

      content {
        key        = secret.key
        project_id = var.project
        secret     = google_secret_manager_secret.this[secret.value].secret_id
        version    = var.secret_versions[secret.value]
      }
    }
  }

  # The build and the first instance need these permissions, and network access to Dimmy's API.
  depends_on = [
    google_artifact_registry_repository_iam_member.builder_writes_images,
    google_compute_router_nat.egress,
    google_kms_crypto_key_iam_member.agent,
    google_project_iam_member.builder,
    google_pubsub_topic_iam_member.function_publishes_items,
    google_secret_manager_secret_iam_member.reader,
    google_storage_bucket_iam_member.builder_reads_sources,
    google_storage_bucket_iam_member.function,
    google_storage_bucket_iam_member.lister,
  ]
}

# On the Cloud Run service of the function, because the function's own IAM policy does not authorise
# calls.
resource "google_cloud_run_service_iam_member" "invoker" {
  # checkov:skip=CKV_GCP_102: receive is the public endpoint; it verifies the signature of every request
  for_each = local._invokers

  project  = var.project
  location = google_cloudfunctions2_function.this[each.key].location
  service  = google_cloudfunctions2_function.this[each.key].name
  role     = "roles/run.invoker"
  member   = each.value

  # A function that is replaced loses its invoker.
  lifecycle {
    replace_triggered_by = [google_cloudfunctions2_function.this[each.key].id]
  }
}

locals {
  _archive_sha256 = filesha256(var.archive)
}

resource "google_storage_bucket_object" "archive" {
  bucket = google_storage_bucket.sources.name
  name   = "functions/${local._archive_sha256}.zip"
  source = var.archive

  # The running functions were built from the old archive, so a new one does not delete it.
  deletion_policy = "ABANDON"

  # A new bucket of the same name is empty.
  lifecycle {
    replace_triggered_by = [google_storage_bucket.sources.id]
  }
}

resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84: optional, with kms_key
  # The key of a repository cannot be changed. With another name, the functions are built into the new one before
  # the old one is deleted.
  project       = var.project
  repository_id = join("-", concat(["${local._prefix}-functions"], var.kms_key == null ? [] : [substr(sha256(var.kms_key), 0, 8)]))
  location      = var.region
  format        = "DOCKER"
  description   = "Images of the functions, created by their builds"
  kms_key_name  = var.kms_key

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"

    most_recent_versions {
      keep_count = 5
    }
  }

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"

    condition {
      older_than = "2592000s"
    }
  }

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]
}

resource "google_artifact_registry_repository_iam_member" "builder_writes_images" {
  project    = var.project
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.writer"
  member     = local._members["builder"]
}

resource "google_storage_bucket_iam_member" "builder_reads_sources" {
  bucket = google_storage_bucket.sources.name
  role   = "roles/storage.objectViewer"
  member = local._members["builder"]

  lifecycle {
    replace_triggered_by = [google_storage_bucket.sources.id]
  }
}

# A build writes its log to the project and reads its source from a bucket that Cloud Functions creates
# on the first deployment. Neither is a resource of this configuration, so both roles are granted on the
# project.
resource "google_project_iam_member" "builder" {
  for_each = {
    "roles/logging.logWriter"    = ""
    "roles/storage.objectViewer" = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-\")"
  }

  project = var.project
  role    = each.key
  member  = local._members["builder"]

  dynamic "condition" {
    for_each = each.value == "" ? [] : [each.value]

    content {
      title      = "sources-of-cloud-functions"
      expression = condition.value
    }
  }
}
