"""Parameters and perplexity of a checkpoint pruned to given sizes, before any recovery, with and without the least
squares that refit the weights behind the neurons that stay.

    python benchmarks/prune.py CHECKPOINT CORPUS 30x448 24x704 [--rows 32] [--tokens 512] [--held-out 16]

Each size is layers x neurons. CHECKPOINT is a Hugging Face folder (best one trained on the corpus), CORPUS a corpus
artifact; perplexity is measured on its test split, calibration text comes from its train split.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from quantize import perplexity

from llmtune.compress import neurons
from llmtune.compress.prune import prune
from llmtune.compress.prune_target import Wish
from llmtune.compress.quantize import Calibration

RIDGE = neurons.RIDGE


def pruned_perplexity(args: argparse.Namespace, size: str, ridge: float) -> tuple[dict[str, float], float]:
    """The figures of one pruning, and the perplexity of what it made; a large ridge leaves the weights as they were."""
    layers, width = map(int, size.split("x"))
    text = Calibration(args.corpus, args.rows, args.tokens, seed=7)
    neurons.RIDGE = ridge
    with tempfile.TemporaryDirectory() as folder:
        output, work = Path(folder, "output"), Path(folder, "work")
        output.mkdir()
        found = prune(args.checkpoint, output, wish=Wish(width, layers), calibration=text, work=work)
        return found, perplexity(output, args.corpus, args.held_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("sizes", nargs="+", help="layers x neurons, for example 24x704")
    parser.add_argument("--rows", type=int, default=32, help="calibration rows")
    parser.add_argument("--tokens", type=int, default=512, help="tokens in a calibration row")
    parser.add_argument("--held-out", type=int, default=16, help="rows of 512 held-out tokens")
    args = parser.parse_args()
    base = perplexity(args.checkpoint, args.corpus, args.held_out)
    print("| layers x neurons | parameters | perplexity | without refitting |\n" + "| --- " * 4 + "|")
    print(f"| all | | {base:.2f} | |", flush=True)
    for size in args.sizes:
        found, refitted = pruned_perplexity(args, size, RIDGE)
        plain = pruned_perplexity(args, size, 1e12)[1] if found["width"] < found["width_before"] else refitted
        print(f"| {size} | {found['parameters'] / 1e6:.1f} M | {refitted:.2f} | {plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
