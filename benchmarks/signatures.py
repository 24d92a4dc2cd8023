"""MinHash signatures of the same texts by llmtune and by Daft's engine, in turn.

    pip install daft
    python benchmarks/signatures.py [--docs /usr/share/doc] [--megabytes 20] [--rounds 5]

256 values of three-word sequences, case and punctuation aside, in both; ours in one process, Daft with all threads that
it takes. What a corpus is compared by is the one step of making it that an engine for columns has of its own.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

from corpus import Texts, _read

VALUES, WIDTH = 256, 3


def main() -> None:
    """Print the median seconds of both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=Path("/usr/share/doc"))
    parser.add_argument("--megabytes", type=float, default=20, help="of text")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    texts = _read(given.docs, given.megabytes * 1e6)
    print(f"{len(texts):,} documents, {sum(len(text) for _, text in texts) / 1e6:.1f} million characters")
    seconds: dict[str, list[float]] = {"llmtune": [], "Daft": []}
    for _ in range(given.rounds):
        for name, sign in (("llmtune", _ours), ("Daft", _daft)):
            start = time.perf_counter()
            sign(texts)
            seconds[name].append(time.perf_counter() - start)
    mine, other = median(seconds["llmtune"]), median(seconds["Daft"])
    print(f"llmtune {mine:.2f} s   Daft {other:.2f} s   {other / mine:.2f} ×")


def _ours(texts: Texts) -> None:
    from llmtune.corpus.near import PERMUTATIONS, Sketcher
    from llmtune.corpus.shingles import hashed

    assert PERMUTATIONS == VALUES
    sketcher = Sketcher()
    for _, text in texts:
        sketcher.add(text, hashed(text))
    sketcher.signatures()


def _daft(texts: Texts) -> None:
    import daft

    said = daft.col("text").normalize(remove_punct=True, lowercase=True, nfd_unicode=False, white_space=True)
    frame = daft.from_pydict({"text": [text for _, text in texts]})
    frame.select(said.minhash(num_hashes=VALUES, ngram_size=WIDTH).alias("signature")).collect()


if __name__ == "__main__":
    main()
