"""Augmentation: more training text from a corpus' own, each new text beside its original."""
