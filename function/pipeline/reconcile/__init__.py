"""Reconciles storage with Dimmy's API: stores items whose webhook never arrived."""
