"""Checks of `infra/` that need neither a cloud nor a registry, with a stand-in provider."""
