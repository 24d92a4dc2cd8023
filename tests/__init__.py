"""Tests of llmtune; the folders mirror the package."""
