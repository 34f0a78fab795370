locals {
  _prefix = "dimmy-${var.environment}"

  # Bucket names are globally unique, as project ids are.
  _data_bucket    = coalesce(var.data_bucket, "${var.project}-${local._prefix}-data")
  _sources_bucket = "${var.project}-${local._prefix}-sources"

  # For resources that hold scans, events or secrets: in a protected environment no plan deletes them.
  _deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"
}

data "google_project" "this" {
  project_id = var.project
}
