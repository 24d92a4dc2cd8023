"""Tests of llmtune.models."""
