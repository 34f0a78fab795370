# Optional: one fixed address from which resolve and reconcile call Dimmy's API, where it has to be allowed.
# receive never calls it. Only outgoing traffic passes through this network: requests of Pub/Sub and Cloud
# Scheduler to the functions do not.

locals {
  _egress = var.egress == null ? {} : { this = var.egress }
}

resource "google_compute_network" "egress" {
  # checkov:skip=CKV2_GCP_18: without a rule of the firewall nothing gets in, and the functions get out
  for_each = local._egress

  project                 = var.project
  name                    = "${local._prefix}-egress"
  auto_create_subnetworks = false

  depends_on = [google_project_service.required]
}

resource "google_compute_subnetwork" "egress" {
  # checkov:skip=CKV_GCP_26: nothing but the functions sends from here, and they log their requests
  # checkov:skip=CKV_GCP_76: it has no IPv6 addresses
  for_each = local._egress

  # Another range has another name, so that the functions move to it before the old one is deleted.
  project       = var.project
  name          = "${local._prefix}-egress-${replace(cidrhost(each.value.range, 0), ".", "-")}"
  region        = var.region
  network       = google_compute_network.egress[each.key].id
  ip_cidr_range = each.value.range

  # Requests to Google's APIs do not pass through the NAT.
  private_ip_google_access = true

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_compute_address" "egress" {
  for_each = local._egress

  project = var.project
  name    = "${local._prefix}-egress"
  region  = var.region

  depends_on = [google_project_service.required]
}

resource "google_compute_router" "egress" {
  for_each = local._egress

  project = var.project
  name    = "${local._prefix}-egress"
  region  = var.region
  network = google_compute_network.egress[each.key].id
}

resource "google_compute_router_nat" "egress" {
  for_each = local._egress

  project                            = var.project
  name                               = "${local._prefix}-egress"
  region                             = var.region
  router                             = google_compute_router.egress[each.key].name
  nat_ip_allocate_option             = "MANUAL_ONLY"
  nat_ips                            = [google_compute_address.egress[each.key].id]
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_PRIMARY_IP_RANGES"

  # Each connection to the API needs a port: up to 256 at once from an instance (dimmy_concurrency), and for
  # two minutes those that were closed.
  enable_dynamic_port_allocation = true
  min_ports_per_vm               = 64
  max_ports_per_vm               = 1024

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }

  # The functions stop using it before it is deleted.
  lifecycle {
    create_before_destroy = true
  }
}
