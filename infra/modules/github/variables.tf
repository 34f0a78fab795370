variable "branch" {
  description = "The branch from which deployments are made."
  type        = string
  default     = "main"
  nullable    = false
}

variable "environment" {
  description = "Name of the installation, and of the environment in GitHub in which it is deployed."
  type        = string
}

variable "extra_roles" {
  description = "Roles on the project that the options of the installation need, such as compute.admin."
  type        = object({ deployer = list(string), planner = list(string) })
  default     = { deployer = [], planner = [] }
  nullable    = false
}

variable "planner_buckets" {
  description = "The buckets whose objects a plan reads: Terraform's state, and the archives."
  type        = list(string)
}

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "repository" {
  description = "The repository in GitHub: OWNER/NAME."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.repository))
    error_message = "A repository in GitHub is OWNER/NAME, without https:// or .git."
  }
}
