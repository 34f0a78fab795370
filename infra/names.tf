locals {
  _prefix = "dimmy-${var.environment}"

  _labels = merge(var.labels, {
    application = "dimmy"
    environment = var.environment
  })

  # Bucket names are unique in the whole world, and the project's id is, too.
  _data_bucket    = coalesce(var.data_bucket, "${var.project}-${local._prefix}-data")
  _sources_bucket = "${var.project}-${local._prefix}-sources"

  # What holds scans, or is on their way: never deleted by a plan where the environment is protected.
  _deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"
}

data "google_project" "this" {
  project_id = var.project
}
