# Where scans end up (`items/`, `events/`, `payloads/`), and where the functions' archives lie.

locals {
  # Which objects of the data bucket each function reads and writes, by the first part of their names.
  _writers = {
    receiver   = { role = "roles/storage.objectUser", folders = ["payloads"] }
    resolver   = { role = "roles/storage.objectUser", folders = ["events", "items"] }
    reconciler = { role = "roles/storage.objectUser", folders = ["items"] }
  }
  _readers = {
    resolver = { role = "roles/storage.objectViewer", folders = ["payloads"] }
  }

  # Who may list is told that an object is not there (404); who may not is told to go away (403), and
  # could not tell an item that is missing from one that is out of reach.
  _listers = ["reconciler", "resolver"]

  _data_access = merge(
    { for account, access in local._writers : "${account}-writes" => merge(access, { account = account }) },
    { for account, access in local._readers : "${account}-reads" => merge(access, { account = account }) },
  )
}

resource "google_storage_bucket" "data" {
  # checkov:skip=CKV_GCP_62: access is logged by Cloud Audit Logs where the project turns data access logs on
  name                        = local._data_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection
  deletion_policy             = local._deletion_policy

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

  depends_on = [google_project_service.required]
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
}

resource "google_storage_bucket_iam_member" "lister" {
  for_each = toset(local._listers)

  bucket = google_storage_bucket.data.name
  role   = "roles/storage.legacyBucketReader"
  member = local._members[each.value]
}

resource "google_storage_bucket" "sources" {
  # checkov:skip=CKV_GCP_62: holds nothing but the archives of this software
  # checkov:skip=CKV_GCP_78: an archive is named by its hash, so no version of it ever differs
  name                        = local._sources_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  depends_on = [google_project_service.required]
}
