"""The report of a run: one HTML file that needs no network."""

from llmtune.report.collect import collect
from llmtune.report.page import write_report

__all__ = ["collect", "write_report"]
