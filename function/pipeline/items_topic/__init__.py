"""Publishes settled items, for a WMS, BigQuery, the archive of photos and other subscribers."""
