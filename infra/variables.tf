# The settings in envs/. modules/dimmy/variables.tf describes and validates them, and has the defaults,
# which null stands for. Only `labels` is described here, because the provider sets them.

variable "alert_channels" {
  type    = list(string)
  default = null
}

variable "alert_emails" {
  type    = list(string)
  default = null
}

variable "allowed_sources" {
  type    = list(string)
  default = null
}

variable "archive" {
  type = string
}

variable "bigquery" {
  type    = bool
  default = null
}

variable "budget" {
  type    = object({ billing_account = string, amount = number, currency = string })
  default = null
}

variable "data_bucket" {
  type    = string
  default = null
}

variable "data_locations" {
  type    = object({ multi_region = string, regions = list(string) })
  default = null
}

variable "deletion_protection" {
  type    = bool
  default = null
}

variable "dimmy_api_url" {
  type    = string
  default = null
}

variable "dimmy_concurrency" {
  type    = number
  default = null
}

variable "dimmy_timeout_seconds" {
  type    = number
  default = null
}

variable "egress" {
  type    = object({ range = optional(string, "10.8.0.0/24") })
  default = null
}

variable "environment" {
  type = string
}

variable "event_retention_days" {
  type    = number
  default = null
}

variable "former_kms_keys" {
  type    = list(string)
  default = null
}

variable "github_repository" {
  description = "The repository in GitHub, OWNER/NAME, whose workflows may plan and deploy. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.github_repository == null || can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository is OWNER/NAME, without https:// or .git."
  }
}

variable "item_subscribers" {
  type = map(object({
    endpoint              = string
    audience              = optional(string)
    flow_ids              = optional(list(string), [])
    ack_deadline_seconds  = optional(number, 60)
    min_backoff_seconds   = optional(number, 10)
    max_backoff_seconds   = optional(number, 600)
    max_delivery_attempts = optional(number, 100)
  }))
  default = null
}

variable "items_topic" {
  type    = bool
  default = null
}

variable "kms_key" {
  type    = string
  default = null
}

variable "labels" {
  description = "Labels of all resources, such as a cost centre."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))
    ])
    error_message = "Labels have lower-case letters, digits, dashes and underscores, at most 63; a key begins with a letter."
  }
}

variable "load_balancer" {
  type = object({
    domain  = string
    ipv6    = optional(bool, false)
    sources = optional(list(string), ["svix-us", "svix-us-east", "svix-eu"])
  })
  default = null
}

variable "log_level" {
  type    = string
  default = null
}

variable "max_delivery_attempts" {
  type    = number
  default = null
}

variable "old_version_retention_days" {
  type    = number
  default = null
}

variable "payload_retention_days" {
  type    = number
  default = null
}

variable "photo_hosts" {
  type    = list(string)
  default = null
}

variable "photos" {
  type    = string
  default = null
}

variable "project" {
  type = string
}

variable "public_invoker" {
  type    = bool
  default = null
}

variable "receipt_retention_days" {
  type    = number
  default = null
}

variable "receive_instances" {
  type    = object({ min = number, max = number })
  default = null
}

variable "receive_url_open" {
  type    = bool
  default = null
}

variable "reconcile_ingress" {
  type    = string
  default = null
}

variable "reconcile_schedules" {
  type    = map(object({ schedule = string, hours = number }))
  default = null
}

variable "region" {
  type    = string
  default = null
}

variable "resolve_instances" {
  type    = object({ min = number, max = number })
  default = null
}

variable "runtime" {
  type    = string
  default = null
}

variable "scheduler_region" {
  type    = string
  default = null
}

variable "secret_locations" {
  type    = list(string)
  default = null
}

variable "secret_versions" {
  type    = object({ api_key = string, signing_secrets = string })
  default = null
}

variable "silence_alert_hours" {
  type    = number
  default = null
}

variable "soft_delete_days" {
  type    = number
  default = null
}
