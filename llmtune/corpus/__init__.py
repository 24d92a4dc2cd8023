"""From files to a clean, de-duplicated, split corpus. `build.py` is the story, the others its chapters."""
