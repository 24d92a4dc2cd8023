"""Labels for documents, made by people and measured: a sample to label, its files read back, agreement between
annotators, one label out of several, likely label errors, and what to label next."""
