"""Checks of `infra/` that need neither a cloud nor a registry: they use a replacement provider."""
