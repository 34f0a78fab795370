# Deployments from GitHub Actions without a key: Workload Identity Federation. A job that runs in the
# environment of the installation's name may act as the deployer, a pull request's as the planner.
# https://cloud.google.com/iam/docs/workload-identity-federation-with-deployment-pipelines

locals {
  _prefix = "dimmy-${var.environment}"

  # The roles that `make deploy` needs, as infra/README.md lists them.
  _deployer_roles = concat(
    [
      "artifactregistry.admin",
      "cloudfunctions.admin",
      "cloudscheduler.admin",
      "iam.serviceAccountAdmin",
      "iam.serviceAccountUser",
      "iam.workloadIdentityPoolAdmin",
      "logging.configWriter",
      "monitoring.editor",
      "pubsub.admin",
      "resourcemanager.projectIamAdmin",
      "run.admin",
      "secretmanager.admin",
      "serviceusage.serviceUsageAdmin",
      "storage.admin",
    ],
    var.extra_roles.deployer,
  )

  # A plan reads every resource and its policy; it changes nothing, and reads no scan and no secret.
  _planner_roles = concat(
    [
      "artifactregistry.reader",
      "cloudfunctions.viewer",
      "cloudscheduler.viewer",
      "iam.securityReviewer",
      "iam.workloadIdentityPoolViewer",
      "logging.viewer",
      "monitoring.viewer",
      "pubsub.viewer",
      "run.viewer",
      "secretmanager.viewer",
      "serviceusage.serviceUsageViewer",
      "storage.bucketViewer",
    ],
    var.extra_roles.planner,
  )

  _jobs = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.this.name}/attribute.job"
}

resource "google_project_service" "required" {
  for_each = toset(["iamcredentials", "sts"])

  project = var.project
  service = "${each.value}.googleapis.com"

  # Other software in the project may need them, too.
  disable_on_destroy = false
}

resource "google_iam_workload_identity_pool" "this" {
  project                   = var.project
  workload_identity_pool_id = "${local._prefix}-github"
  display_name              = "Dimmy, ${var.environment}: GitHub"

  depends_on = [google_project_service.required]
}

resource "google_iam_workload_identity_pool_provider" "this" {
  project                            = var.project
  workload_identity_pool_id          = google_iam_workload_identity_pool.this.workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  display_name                       = "GitHub Actions"

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }

  # An event has no name that begins with "deploy-".
  attribute_mapping = {
    "google.subject" = "assertion.sub"
    "attribute.job"  = "has(assertion.environment) ? \"deploy-\" + assertion.environment : assertion.event_name"
  }

  # Every repository of GitHub has the same issuer.
  attribute_condition = join(" && ", [
    "assertion.repository == \"${var.repository}\"",
    "(!has(assertion.environment) || assertion.ref == \"refs/heads/${var.branch}\")",
  ])
}

resource "google_service_account" "deployer" {
  project      = var.project
  account_id   = "${local._prefix}-deployer"
  display_name = "Dimmy, ${var.environment}: deployer"
  description  = "Deploys from GitHub Actions"
}

resource "google_service_account" "planner" {
  project      = var.project
  account_id   = "${local._prefix}-planner"
  display_name = "Dimmy, ${var.environment}: planner"
  description  = "Plans pull requests in GitHub Actions"
}

resource "google_service_account_iam_member" "deployer" {
  service_account_id = google_service_account.deployer.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "${local._jobs}/deploy-${var.environment}"
}

resource "google_service_account_iam_member" "planner" {
  service_account_id = google_service_account.planner.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "${local._jobs}/pull_request"
}

resource "google_project_iam_member" "deployer" {
  # checkov:skip=CKV_GCP_41: it creates the service accounts, and lets the functions use them
  # checkov:skip=CKV_GCP_42: it manages the project's roles
  # checkov:skip=CKV_GCP_46: it is no default account
  # checkov:skip=CKV_GCP_49: it creates the service accounts, and lets the functions use them
  for_each = toset(local._deployer_roles)

  project = var.project
  role    = "roles/${each.value}"
  member  = google_service_account.deployer.member
}

resource "google_project_iam_member" "planner" {
  for_each = toset(local._planner_roles)

  project = var.project
  role    = "roles/${each.value}"
  member  = google_service_account.planner.member
}

# Terraform's state, which the planner does not lock, and the archives of the functions.
resource "google_storage_bucket_iam_member" "planner" {
  for_each = toset(var.planner_buckets)

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = google_service_account.planner.member
}
