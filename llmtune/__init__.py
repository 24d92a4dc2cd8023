"""llmtune: from a folder of domain documents to a small, verified, deployable language model."""

__version__ = "0.1.0"
