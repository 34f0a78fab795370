"""Receives webhooks: verifies them and publishes them to Pub/Sub. Knows nothing of Dimmy."""

from pipeline.lazy_packages import import_only

# Before any module of this package imports from them.
import_only("svix", "webhooks")
import_only("google.pubsub_v1", "types")
