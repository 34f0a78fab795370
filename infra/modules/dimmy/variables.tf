variable "alert_channels" {
  description = "Existing notification channels for the alerts, beside alert_emails: Slack, PagerDuty and others, as projects/PROJECT/notificationChannels/NUMBER."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for channel in var.alert_channels : can(regex("^projects/[^/\\s]+/notificationChannels/[0-9]+$", channel))])
    error_message = "Each entry of alert_channels is a channel's name, as `gcloud beta monitoring channels list` shows it: projects/PROJECT/notificationChannels/NUMBER."
  }
}

variable "alert_emails" {
  description = "Recipients of alerts. Empty: alerts are only shown in the console."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for email in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", email))])
    error_message = "Each entry of alert_emails is an address such as warehouse-it@example.com."
  }
}

variable "allowed_sources" {
  description = "Sources that may call receive: addresses, CIDR ranges, svix-us, svix-us-east, svix-eu. Empty: any. Signatures are verified in any case."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for source in var.allowed_sources :
      contains(["svix-us", "svix-us-east", "svix-eu"], source)
      || can(cidrhost(source, 0)) || can(cidrhost("${source}/32", 0)) || can(cidrhost("${source}/128", 0))
    ])
    error_message = "Each entry of allowed_sources is an address, a CIDR range, svix-us, svix-us-east or svix-eu."
  }

  validation {
    condition = alltrue([
      for source in var.allowed_sources :
      cidrhost(source, 0) == cidrhost("${split("/", source)[0]}/${strcontains(source, ":") ? 128 : 32}", 0)
      if can(cidrhost(source, 0))
    ])
    error_message = "A range of allowed_sources begins with its first address, as in 203.0.113.0/24: receive does not start with another one."
  }
}

variable "archive" {
  description = "Path of the archive with the functions' source, as `make package` builds it."
  type        = string

  validation {
    condition     = endswith(var.archive, ".zip") && can(filesha256(var.archive))
    error_message = "archive is not an existing .zip file: `make package` builds one; `make plan` and `make deploy` do that themselves."
  }
}

variable "bigquery" {
  description = "Whether to write every version of an item and every attempt at an event into BigQuery, with views of the newest ones."
  type        = bool
  default     = false
  nullable    = false
}

variable "budget" {
  description = "A monthly budget of the project: the billing account it belongs to, the amount, and that account's currency. It sends emails to alert_emails and to the account's administrators at 50, 90 and 100 per cent, and if the forecast exceeds it. Null: none."
  type        = object({ billing_account = string, amount = number, currency = string })
  default     = null

  validation {
    condition     = var.budget == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "budget.billing_account is a billing account's id, such as 012345-6789AB-CDEF01."
  }

  validation {
    condition     = var.budget == null || try(var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount, false)
    error_message = "budget.amount is a whole number, 1 or more."
  }

  validation {
    condition     = var.budget == null || can(regex("^[A-Z]{3}$", var.budget.currency))
    error_message = "budget.currency is the currency of the billing account, as three letters: EUR, USD."
  }

  validation {
    condition     = var.budget == null || length(var.alert_emails) <= 5
    error_message = "A budget notifies at most 5 of alert_emails: use the address of a group."
  }
}

variable "data_bucket" {
  description = "Name of the bucket for the scans; null: PROJECT-dimmy-ENVIRONMENT-data."
  type        = string
  default     = null

  validation {
    condition     = var.data_bucket == null || can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", var.data_bucket))
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, dashes, dots or underscores."
  }
}

variable "data_locations" {
  description = "Two regions for the scans, instead of one, and the multi-region that contains them, such as { multi_region = \"EU\", regions = [\"europe-west1\", \"europe-west4\"] }. One of them is `region`. Null: only `region`. It cannot be changed later: Terraform would replace the bucket, which deletion_protection refuses."
  type        = object({ multi_region = string, regions = list(string) })
  default     = null

  validation {
    condition     = var.data_locations == null || can(regex("^[A-Z]{2,}$", var.data_locations.multi_region))
    error_message = "data_locations.multi_region is the location of Cloud Storage that contains both regions: EU, US or ASIA, for example."
  }

  validation {
    condition     = var.data_locations == null || try(length(distinct(var.data_locations.regions)) == 2 && length(var.data_locations.regions) == 2 && contains(var.data_locations.regions, var.region), false)
    error_message = "data_locations.regions has two regions, and one of them is region."
  }
}

variable "deletion_protection" {
  description = "Whether to refuse plans that would delete scans, undelivered events or secrets."
  type        = bool
  default     = true
  nullable    = false
}

variable "dimmy_api_url" {
  description = "Base URL of Dimmy's API."
  type        = string
  default     = "https://dimmy.api.optioryx.com"
  nullable    = false

  validation {
    condition     = can(regex("^https://[^\\s?#@]+$", var.dimmy_api_url))
    error_message = "dimmy_api_url begins with https:// (every request carries the API key) and has no query, user or password."
  }
}

variable "dimmy_concurrency" {
  description = "Simultaneous requests to the API from one instance of resolve or reconcile."
  type        = number
  default     = 32
  nullable    = false

  validation {
    condition     = var.dimmy_concurrency >= 1 && var.dimmy_concurrency <= 256 && floor(var.dimmy_concurrency) == var.dimmy_concurrency
    error_message = "dimmy_concurrency is a whole number from 1 to 256."
  }
}

variable "dimmy_timeout_seconds" {
  description = "Timeout of one request to the API."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.dimmy_timeout_seconds >= 0.1 && var.dimmy_timeout_seconds <= 120
    error_message = "dimmy_timeout_seconds is a number of seconds from 0.1 to 120."
  }
}

variable "egress" {
  description = "A fixed address from which resolve and reconcile call Dimmy's API, and the range of the network that they use for it; {} has the default range. The range can be enlarged, or moved to one that does not overlap. Null: any address of Google's. The first requests of a new instance may take a minute to get through."
  type        = object({ range = optional(string, "10.8.0.0/24") })
  default     = null

  validation {
    condition     = var.egress == null || can(regex("/([8-9]|1[0-9]|2[0-6])$", var.egress.range)) && can(cidrhost(var.egress.range, 0)) && !strcontains(try(var.egress.range, ""), ":")
    error_message = "egress.range is an IPv4 range from /8 to /26, the smallest that Cloud Run accepts: 10.8.0.0/24, for example."
  }

  validation {
    # Two addresses for an instance, twice as many while new instances replace the old ones; reconcile has at most
    # 2 instances, and 4 addresses of a range are reserved.
    condition     = var.egress == null || try(pow(2, 32 - tonumber(split("/", var.egress.range)[1])) >= 4 * (var.resolve_instances.max + 2) + 4, true)
    error_message = "egress.range is too small: with resolve_instances.max = ${var.resolve_instances.max} Cloud Run needs up to ${4 * (var.resolve_instances.max + 2) + 4} addresses."
  }
}

variable "environment" {
  description = "Name of the environment; part of every resource's name."
  type        = string

  validation {
    # It is part of the ids of service accounts, which may have 30 characters.
    condition     = can(regex("^[a-z]([a-z0-9-]{0,11}[a-z0-9])?$", var.environment))
    error_message = "environment has 1 to 13 lower-case letters, digits and dashes, beginning with a letter: dev, staging, prod."
  }
}

variable "event_retention_days" {
  description = "How long Pub/Sub keeps an event that resolve has not finished."
  type        = number
  default     = 31
  nullable    = false

  validation {
    condition     = var.event_retention_days >= 2 && var.event_retention_days <= 31 && floor(var.event_retention_days) == var.event_retention_days
    error_message = "event_retention_days is a whole number from 2 to 31: it may take 30 hours until an event becomes a dead letter, and Pub/Sub retains messages for at most 31 days."
  }
}

variable "former_kms_keys" {
  description = "Keys that kms_key had before. What they encrypted stays encrypted with them, so Google's services need them as long as it is kept."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for key in var.former_kms_keys : can(regex("^projects/[^/\\s]+/locations/[a-z0-9-]+/keyRings/[\\w-]+/cryptoKeys/[\\w-]+$", key)) && key != var.kms_key])
    error_message = "Each entry of former_kms_keys is a key's name, and not that of kms_key: projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY."
  }
}

variable "item_subscribers" {
  description = "Systems that every item is pushed to, by name: the endpoint, the audience of the token it is sent with (null: no token), the flows whose items it gets (empty: all; if they change, a new subscription begins with what is published from then on), how long to wait for an answer, the pauses between attempts and how many attempts there are before a message becomes a dead letter."
  type = map(object({
    endpoint              = string
    audience              = optional(string)
    flow_ids              = optional(list(string), [])
    ack_deadline_seconds  = optional(number, 60)
    min_backoff_seconds   = optional(number, 10)
    max_backoff_seconds   = optional(number, 600)
    max_delivery_attempts = optional(number, 100)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.item_subscribers) : can(regex("^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$", name))])
    error_message = "The name of an item subscriber has at most 30 lower-case letters, digits and dashes, begins with a letter and does not end with a dash."
  }

  validation {
    condition     = alltrue([for subscriber in var.item_subscribers : can(regex("^https://[A-Za-z0-9.-]+(:[0-9]+)?([/?][^\\s#]*)?$", subscriber.endpoint))])
    error_message = "item_subscribers: endpoint begins with https://, because items and the token are sent to it, and has no user, password or fragment."
  }

  validation {
    condition     = alltrue([for subscriber in var.item_subscribers : subscriber.audience == null || can(regex("^\\S+$", subscriber.audience))])
    error_message = "item_subscribers: audience is what the endpoint expects as the `aud` of a token, usually its own URL; null: no token."
  }

  validation {
    condition     = alltrue(flatten([for subscriber in var.item_subscribers : [for flow_id in subscriber.flow_ids : can(regex("^[^\\x00-\\x1f\\x7f]+$", flow_id))]]))
    error_message = "item_subscribers: flow_ids are texts without control characters, and none is empty."
  }

  # The length of _subscriber_filters (subscribers.tf). Base64 has four characters for three bytes.
  validation {
    condition = alltrue([
      for subscriber in var.item_subscribers : 256 >= floor(3 / 4 * length(trim(base64encode(join(" OR ", [
        for flow_id in subscriber.flow_ids : "attributes.flow-id = \"${replace(replace(flow_id, "\\", "\\\\"), "\"", "\\\"")}\""
      ])), "=")))
    ])
    error_message = "item_subscribers: the filter of an item subscriber would have more than 256 bytes, the most that Pub/Sub accepts: list fewer flow_ids, or make a second subscriber of the same endpoint."
  }

  validation {
    condition     = alltrue([for subscriber in var.item_subscribers : subscriber.ack_deadline_seconds >= 10 && subscriber.ack_deadline_seconds <= 600 && floor(subscriber.ack_deadline_seconds) == subscriber.ack_deadline_seconds])
    error_message = "item_subscribers: ack_deadline_seconds is a whole number from 10 to 600, the range that Pub/Sub accepts."
  }

  validation {
    condition     = alltrue([for subscriber in var.item_subscribers : subscriber.min_backoff_seconds >= 0 && subscriber.min_backoff_seconds <= subscriber.max_backoff_seconds && subscriber.max_backoff_seconds <= 600])
    error_message = "item_subscribers: min_backoff_seconds is from 0 to max_backoff_seconds, and that is at most 600."
  }

  validation {
    condition     = alltrue([for subscriber in var.item_subscribers : subscriber.max_delivery_attempts >= 5 && subscriber.max_delivery_attempts <= 100 && floor(subscriber.max_delivery_attempts) == subscriber.max_delivery_attempts])
    error_message = "item_subscribers: max_delivery_attempts is a whole number from 5 to 100, the range that Pub/Sub accepts."
  }
}

variable "items_topic" {
  description = "Whether to publish every item that is stored or found unchanged to a topic, for subscriptions of your own. `bigquery`, `item_subscribers` and `photos` create it, too."
  type        = bool
  default     = false
  nullable    = false
}

variable "kms_key" {
  description = "A key of Cloud KMS that encrypts topics, buckets, secrets, functions, their images, and the BigQuery dataset with its tables, as projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY; it is in `region`. Null: Google's own encryption. What exists already keeps its encryption: secrets for good (create new ones), stored objects until they are written again. Move a replaced key to former_kms_keys, or what it encrypted can no longer be read."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/\\s]+/locations/${var.region}/keyRings/[\\w-]+/cryptoKeys/[\\w-]+$", var.kms_key))
    error_message = "kms_key is the name of a key in ${var.region}: projects/PROJECT/locations/${var.region}/keyRings/RING/cryptoKeys/KEY."
  }

  validation {
    condition     = var.kms_key == null || alltrue([for location in var.secret_locations : location == var.region])
    error_message = "With kms_key, secrets are kept in region only: Secret Manager needs a key in each of their locations."
  }

  validation {
    condition     = var.kms_key == null || var.data_locations == null
    error_message = "kms_key and data_locations exclude each other: a bucket of two regions cannot use a key of one."
  }
}

variable "load_balancer" {
  description = "A load balancer with Cloud Armor in front of receive: its domain, whether it has an IPv6 address, too, and the sources it admits (CIDR ranges, svix-us, svix-us-east, svix-eu; without ipv6 only their IPv4 ranges). Null: none."
  type = object({
    domain  = string
    ipv6    = optional(bool, false)
    sources = optional(list(string), ["svix-us", "svix-us-east", "svix-eu"])
  })
  default = null

  validation {
    condition     = var.load_balancer == null || can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", var.load_balancer.domain))
    error_message = "load_balancer.domain is a domain such as hooks.example.com, without https:// or a path."
  }

  validation {
    condition = var.load_balancer == null || alltrue([
      for source in try(var.load_balancer.sources, []) :
      contains(["svix-us", "svix-us-east", "svix-eu"], source) || can(cidrhost(source, 0))
    ])
    error_message = "Each entry of load_balancer.sources is a CIDR range (one address: 203.0.113.7/32), svix-us, svix-us-east or svix-eu."
  }

  validation {
    condition     = var.load_balancer == null || anytrue([for source in try(var.load_balancer.sources, []) : try(var.load_balancer.ipv6, false) || !strcontains(source, ":")])
    error_message = "load_balancer.sources is empty, or has only IPv6 ranges and ipv6 is not set: no webhook could pass."
  }
}

variable "log_level" {
  description = "Lowest severity that is logged: INFO, or DEBUG (includes every item)."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO"], var.log_level)
    error_message = "log_level is DEBUG or INFO: alerts, metrics, BigQuery and the commands read lines of INFO."
  }
}

variable "max_delivery_attempts" {
  description = "Attempts at an event before it becomes a dead letter. With 10 s to 600 s between them, 100 attempts take 16 to 30 hours."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.max_delivery_attempts >= 5 && var.max_delivery_attempts <= 100 && floor(var.max_delivery_attempts) == var.max_delivery_attempts
    error_message = "max_delivery_attempts is a whole number from 5 to 100, the range that Pub/Sub accepts."
  }
}

variable "old_version_retention_days" {
  description = "How long the bucket keeps old versions of replaced or deleted objects."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.old_version_retention_days >= 1 && floor(var.old_version_retention_days) == var.old_version_retention_days
    error_message = "old_version_retention_days is a whole number, 1 or more."
  }
}

variable "payload_retention_days" {
  description = "How long bodies that are too large for a message are kept. At least as long as an event may wait for resolve and among the dead letters."
  type        = number
  default     = 90
  nullable    = false

  validation {
    # At most 31 days in the subscription of resolve, then 31 in that of the dead letters.
    condition     = var.payload_retention_days >= 63 && floor(var.payload_retention_days) == var.payload_retention_days
    error_message = "payload_retention_days is a whole number, 63 or more: an event may be 62 days old when it is re-driven, and would be lost without its body."
  }
}

variable "photo_hosts" {
  description = "The hosts that photos are fetched from, with `photos`. Links to other hosts are not followed: the links of an item are untrusted."
  type        = list(string)
  default     = ["dimmy.s3.amazonaws.com"]
  nullable    = false

  validation {
    condition     = length(var.photo_hosts) > 0 && alltrue([for host in var.photo_hosts : can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", host))])
    error_message = "photo_hosts has at least one host, such as dimmy.s3.amazonaws.com: lower case, without https://, a port or a path."
  }
}

variable "photos" {
  description = "`archive`: the function of that name stores the photos of every item in the bucket, under photos/. Null: items only link to them."
  type        = string
  default     = null

  validation {
    condition     = var.photos == null || var.photos == "archive"
    error_message = "photos is null or archive."
  }
}

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is a project's id (6 to 30 lower-case letters, digits and dashes), not its name or number."
  }
}

variable "public_invoker" {
  description = "Whether anyone may call receive (`allUsers`), as Svix does. False where an organisation forbids that: then switch off the check on the service, with `gcloud run services update NAME --no-invoker-iam-check`."
  type        = bool
  default     = true
  nullable    = false
}

variable "receipt_retention_days" {
  description = "How long the receipts of events are kept, which `make trace` and `make replay` read; null: for ever. Items are never deleted."
  type        = number
  default     = null

  validation {
    # As for payloads.
    condition     = var.receipt_retention_days == null || try(var.receipt_retention_days >= 63 && floor(var.receipt_retention_days) == var.receipt_retention_days, false)
    error_message = "receipt_retention_days is null or a whole number, 63 or more: an event may be 62 days old when it is re-driven, and its receipt says which items are still missing."
  }
}

variable "receive_instances" {
  description = "Minimum and maximum number of instances of receive. A minimum of 1 avoids cold starts."
  type        = object({ min = number, max = number })
  default     = { min = 0, max = 10 }
  nullable    = false

  validation {
    condition     = var.receive_instances.min >= 0 && var.receive_instances.max >= 1 && var.receive_instances.min <= var.receive_instances.max && var.receive_instances.max <= 1000
    error_message = "receive_instances has min from 0 to max, and max from 1 to 1000."
  }
}

variable "receive_url_open" {
  description = "Whether receive's own URL stays open beside a load balancer, as long as the load balancer's certificate is not active. While it is open, `allowed_sources` refuses requests that come through the load balancer."
  type        = bool
  default     = false
  nullable    = false
}

variable "reconcile_ingress" {
  description = "Which traffic reaches reconcile: ALLOW_ALL, or ALLOW_INTERNAL_ONLY where an organisation requires it. Cloud Scheduler reaches it in both cases; IAM decides who may call it."
  type        = string
  default     = "ALLOW_ALL"
  nullable    = false

  validation {
    condition     = contains(["ALLOW_ALL", "ALLOW_INTERNAL_ONLY"], var.reconcile_ingress)
    error_message = "reconcile_ingress is ALLOW_ALL or ALLOW_INTERNAL_ONLY."
  }
}

variable "reconcile_schedules" {
  description = "Schedules of reconcile: when (cron, in UTC), and how many hours to look back. Each item in the window costs a read."
  type        = map(object({ schedule = string, hours = number }))
  default = {
    hourly = { schedule = "17 * * * *", hours = 6 }
    daily  = { schedule = "41 3 * * *", hours = 72 }
    weekly = { schedule = "23 4 * * 0", hours = 2160 }
  }
  nullable = false

  validation {
    condition     = alltrue([for name, job in var.reconcile_schedules : can(regex("^[a-z][a-z0-9-]{0,30}$", name)) && can(regex("^\\S+( \\S+){4}$", job.schedule))])
    error_message = "Each entry of reconcile_schedules has a name in lower case and the five fields of cron, as in \"17 * * * *\"."
  }

  validation {
    condition     = alltrue([for job in var.reconcile_schedules : job.hours >= 1 && job.hours <= 9999 && floor(job.hours) == job.hours])
    error_message = "hours is a whole number from 1 to 9999."
  }
}

variable "region" {
  description = "Region in which everything runs and is stored."
  type        = string
  default     = "europe-west1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a region's name, such as europe-west1 (not a zone, not a multi-region)."
  }
}

variable "resolve_instances" {
  description = "Minimum and maximum number of instances of resolve. The maximum times dimmy_concurrency is the highest number of simultaneous requests to Dimmy's API."
  type        = object({ min = number, max = number })
  default     = { min = 0, max = 4 }
  nullable    = false

  validation {
    condition     = var.resolve_instances.min >= 0 && var.resolve_instances.max >= 1 && var.resolve_instances.min <= var.resolve_instances.max && var.resolve_instances.max <= 1000
    error_message = "resolve_instances has min from 0 to max, and max from 1 to 1000."
  }
}

variable "runtime" {
  description = "Python runtime of the functions."
  type        = string
  default     = "python313"
  nullable    = false

  validation {
    condition     = contains(["python312", "python313", "python314"], var.runtime)
    error_message = "runtime is python312, python313 or python314."
  }
}

variable "scheduler_region" {
  description = "Region of Cloud Scheduler, which is not available in every region. Null: as region."
  type        = string
  default     = null

  validation {
    condition     = var.scheduler_region == null || can(regex("^[a-z]+-[a-z]+[0-9]+$", var.scheduler_region))
    error_message = "scheduler_region is a region's name, such as europe-west1."
  }
}

variable "secret_locations" {
  description = "Regions in which the secrets are kept. Empty: in `region`. Later changes have no effect."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for location in var.secret_locations : can(regex("^[a-z]+-[a-z]+[0-9]+$", location))])
    error_message = "Each entry of secret_locations is a region's name, such as europe-west1."
  }
}

variable "secret_versions" {
  description = "Version of each secret that the functions read. `make plan` and `make deploy` set the newest ones."
  type        = object({ api_key = string, signing_secrets = string })
  default     = { api_key = "1", signing_secrets = "1" }
  nullable    = false

  validation {
    condition     = alltrue([for version in values(var.secret_versions) : can(regex("^[1-9][0-9]*$", version))])
    error_message = "A secret's version is a number, not latest: instances that start at different times would read different versions."
  }
}

variable "silence_alert_hours" {
  description = "Alert if no webhook arrives for this many hours; null: never. Leave it null where the warehouse closes for longer."
  type        = number
  default     = null

  validation {
    condition     = var.silence_alert_hours == null || can(regex("^([1-9]|1[0-9]|2[0-3])$", tostring(var.silence_alert_hours)))
    error_message = "silence_alert_hours is a whole number from 1 to 23, the range that Cloud Monitoring supports."
  }
}

variable "soft_delete_days" {
  description = "How long a deleted object can be restored: 0 (not at all) or 7 to 90 days."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.soft_delete_days == 0 || (var.soft_delete_days >= 7 && var.soft_delete_days <= 90)
    error_message = "soft_delete_days is 0, or from 7 to 90, the range that Cloud Storage accepts."
  }
}
