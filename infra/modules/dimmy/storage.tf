# The bucket of the scans (`items/`, `events/`, `payloads/`, `photos/`), and that of the functions' archives.

locals {
  # Which folders of the data bucket each function writes and reads.
  _writers = merge(
    {
      receiver   = { role = "roles/storage.objectUser", folders = ["payloads"] }
      resolver   = { role = "roles/storage.objectUser", folders = ["events", "items"] }
      reconciler = { role = "roles/storage.objectUser", folders = ["items", "reconcile"] }
    },
    # It never replaces or deletes a photo.
    local._archives_photos ? { archiver = { role = "roles/storage.objectCreator", folders = ["photos"] } } : {},
  )
  # An item that is too large for a message is read from the bucket.
  _readers = merge(
    { resolver = { role = "roles/storage.objectViewer", folders = ["payloads"] } },
    local._archives_photos ? { archiver = { role = "roles/storage.objectViewer", folders = ["items", "photos"] } } : {},
  )

  # Without permission to list, a missing object is answered with 403 instead of 404, and looks like a
  # missing permission.
  _listers = concat(["reconciler", "resolver"], local._archives_photos ? ["archiver"] : [])

  _data_access = merge(
    { for account, access in local._writers : "${account}-writes" => merge(access, { account = account }) },
    { for account, access in local._readers : "${account}-reads" => merge(access, { account = account }) },
  )
}

resource "google_storage_bucket" "data" {
  # checkov:skip=CKV_GCP_62: Cloud Audit Logs record access if the project enables data access logs
  project                     = var.project
  name                        = local._data_bucket
  location                    = var.data_locations == null ? var.region : var.data_locations.multi_region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection
  deletion_policy             = local._deletion_policy

  # In upper case, as Cloud Storage returns them: the provider compares the letters, too.
  dynamic "custom_placement_config" {
    for_each = var.data_locations == null ? [] : [var.data_locations.regions]

    content {
      data_locations = [for region in custom_placement_config.value : upper(region)]
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]

    content {
      default_kms_key_name = encryption.value
    }
  }

  versioning {
    enabled = true
  }

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      matches_prefix = ["payloads/"]
      age            = var.payload_retention_days
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      days_since_noncurrent_time = var.old_version_retention_days
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }

    condition {
      age = 7
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.receipt_retention_days == null ? [] : [var.receipt_retention_days]

    content {
      action {
        type = "Delete"
      }

      condition {
        matches_prefix = ["events/"]
        age            = lifecycle_rule.value
      }
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]
}

resource "google_storage_bucket_iam_member" "function" {
  for_each = local._data_access

  bucket = google_storage_bucket.data.name
  role   = each.value.role
  member = local._members[each.value.account]

  condition {
    title = each.key
    expression = join(" || ", [
      for folder in each.value.folders :
      "resource.name.startsWith(\"projects/_/buckets/${local._data_bucket}/objects/${folder}/\")"
    ])
  }

  # A new bucket of the same name has no roles.
  lifecycle {
    replace_triggered_by = [google_storage_bucket.data.id]
  }
}

resource "google_storage_bucket_iam_member" "lister" {
  for_each = toset(local._listers)

  bucket = google_storage_bucket.data.name
  role   = "roles/storage.legacyBucketReader"
  member = local._members[each.value]

  lifecycle {
    replace_triggered_by = [google_storage_bucket.data.id]
  }
}

resource "google_storage_bucket" "sources" {
  # checkov:skip=CKV_GCP_62: holds nothing but the archives of this software
  # checkov:skip=CKV_GCP_78: an archive is named by its hash, so its content never changes
  project                     = var.project
  name                        = local._sources_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]

    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]
}
