"""One source of randomness: seeds for each use of it, by name, from the run's own."""

from __future__ import annotations

import hashlib


def seed_of(seed: int, *names: object) -> int:
    """A seed (63 bits) for one use of randomness, named, from the run's seed."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
