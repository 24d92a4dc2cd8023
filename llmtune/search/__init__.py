"""Hyper-parameter search: many runs of one recipe, each with other settings."""
