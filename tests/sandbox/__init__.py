"""What stands in for the cloud on a laptop: Pub/Sub, Dimmy's API, Svix's sender, Cloud Storage.

For people (`make demo`, `make run`) and for the tests alike. The deployed code knows nothing of it.
"""
