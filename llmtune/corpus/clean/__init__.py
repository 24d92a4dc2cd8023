"""Clean-up of what was read, one file an idea; `source.py` puts them in order."""
