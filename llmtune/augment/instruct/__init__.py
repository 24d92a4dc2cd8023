"""Instruction pairs from documents: what a document's structure says, as a question and its answer."""
