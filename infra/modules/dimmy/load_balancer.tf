# Optional: a load balancer with Cloud Armor in front of `receive`, which admits only Svix's addresses
# or those that you list. Signatures are verified in any case. The function's own URL is then closed.

locals {
  # https://docs.svix.com/receiving/source-ips, as in function/pipeline/receive/sources.py
  _svix_sources = {
    svix-us      = ["44.228.126.217/32", "50.112.21.217/32", "52.24.126.164/32", "54.148.139.208/32", "2600:1f24:64:8000::/56"]
    svix-us-east = ["54.164.207.221/32", "54.90.7.123/32", "2600:1f28:37:4000::/56"]
    svix-eu      = ["52.215.16.239/32", "54.216.8.72/32", "63.33.109.123/32", "2a05:d028:17:8000::/56"]
  }

  _load_balancers = var.load_balancer == null ? {} : { this = var.load_balancer }

  _ipv6_load_balancers = { for key, balancer in local._load_balancers : key => balancer if balancer.ipv6 }

  # Without an IPv6 address no request comes from one. A Cloud Armor rule accepts at most ten ranges.
  _admitted = { for key, balancer in local._load_balancers : key => chunklist([
    for range in flatten([for source in balancer.sources : lookup(local._svix_sources, source, [source])]) :
    range if balancer.ipv6 || !strcontains(range, ":")
  ], 10) }
}

resource "google_compute_global_address" "receive" {
  for_each = local._load_balancers

  project = var.project
  name    = "${local._prefix}-receive"

  depends_on = [google_project_service.required]
}

resource "google_compute_global_address" "receive_ipv6" {
  for_each = local._ipv6_load_balancers

  project    = var.project
  name       = "${local._prefix}-receive-ipv6"
  ip_version = "IPV6"

  depends_on = [google_project_service.required]
}

resource "google_compute_security_policy" "receive" {
  for_each = local._load_balancers

  project     = var.project
  name        = "${local._prefix}-receive"
  description = "Admits only the senders of webhooks"
  type        = "CLOUD_ARMOR"

  dynamic "rule" {
    for_each = local._admitted[each.key]

    content {
      action      = "allow"
      priority    = 1000 + rule.key
      description = "Senders of webhooks"

      match {
        versioned_expr = "SRC_IPS_V1"

        config {
          src_ip_ranges = rule.value
        }
      }
    }
  }

  # checkov requires this rule against Log4Shell. It never sees requests that are admitted above.
  rule {
    action      = "deny(403)"
    priority    = 2147483000
    description = "CVE-2021-44228"

    match {
      expr {
        expression = "evaluatePreconfiguredExpr('cve-canary')"
      }
    }
  }

  rule {
    action      = "deny(403)"
    priority    = 2147483647
    description = "Everyone else"

    match {
      versioned_expr = "SRC_IPS_V1"

      config {
        src_ip_ranges = ["*"]
      }
    }
  }

  depends_on = [google_project_service.required]
}

resource "google_compute_region_network_endpoint_group" "receive" {
  for_each = local._load_balancers

  project               = var.project
  name                  = "${local._prefix}-receive"
  region                = var.region
  network_endpoint_type = "SERVERLESS"

  # Not a reference to the function: create_before_destroy would then apply to the function, too, and a new
  # one of the same name cannot be created. A function is replaced if its first creation failed.
  cloud_run {
    service = "${local._prefix}-receive"
  }

  # While the backend service uses a group it cannot be deleted. A new one has another region or name, so
  # the names of the two do not collide.
  lifecycle {
    create_before_destroy = true
  }

  depends_on = [google_project_service.required]
}

resource "google_compute_backend_service" "receive" {
  for_each = local._load_balancers

  project               = var.project
  name                  = "${local._prefix}-receive"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"
  security_policy       = google_compute_security_policy.receive[each.key].id

  backend {
    group = google_compute_region_network_endpoint_group.receive[each.key].id
  }

  log_config {
    enable      = true
    sample_rate = 1
  }

  depends_on = [google_cloudfunctions2_function.this]
}

resource "google_compute_url_map" "receive" {
  for_each = local._load_balancers

  project         = var.project
  name            = "${local._prefix}-receive"
  default_service = google_compute_backend_service.receive[each.key].id
}

resource "google_compute_managed_ssl_certificate" "receive" {
  for_each = local._load_balancers

  # A new domain needs its certificate before the one in use can be deleted.
  project = var.project
  name    = "${local._prefix}-receive-${substr(sha256(each.value.domain), 0, 8)}"

  managed {
    domains = [each.value.domain]
  }

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [google_project_service.required]
}

resource "google_compute_ssl_policy" "receive" {
  for_each = local._load_balancers

  project         = var.project
  name            = "${local._prefix}-receive"
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"

  depends_on = [google_project_service.required]
}

resource "google_compute_target_https_proxy" "receive" {
  for_each = local._load_balancers

  project          = var.project
  name             = "${local._prefix}-receive"
  url_map          = google_compute_url_map.receive[each.key].id
  ssl_certificates = [google_compute_managed_ssl_certificate.receive[each.key].id]
  ssl_policy       = google_compute_ssl_policy.receive[each.key].id
}

resource "google_compute_global_forwarding_rule" "receive" {
  for_each = local._load_balancers

  project               = var.project
  name                  = "${local._prefix}-receive"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.receive[each.key].id
  ip_protocol           = "TCP"
  port_range            = "443"
  target                = google_compute_target_https_proxy.receive[each.key].id
}

resource "google_compute_global_forwarding_rule" "receive_ipv6" {
  for_each = local._ipv6_load_balancers

  project               = var.project
  name                  = "${local._prefix}-receive-ipv6"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.receive_ipv6[each.key].id
  ip_protocol           = "TCP"
  port_range            = "443"
  target                = google_compute_target_https_proxy.receive[each.key].id
}
