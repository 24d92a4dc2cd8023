"""Perplexity, seconds, bytes and peak memory of each way to quantize a checkpoint, against the checkpoint itself.

    python benchmarks/quantize.py CHECKPOINT CORPUS [--only gptq-32] [--rows 64] [--tokens 512]

CHECKPOINT is a Hugging Face folder (best one trained on the corpus), CORPUS a corpus artifact; perplexity is measured
on its test split, calibration text comes from its train split. Each way runs in a process of its own, so that the peak
memory is its own.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llmtune.compress.grid import Grid
from llmtune.machine import peak_resident

WAYS = {
    "nf4": ("nf4", None, True),
    "int8": ("int8", None, True),
    "round-64-largest": ("round", Grid(4, 64, True), False),
    "round-32": ("round", Grid(4, 32, True), True),
    "gptq-64-largest": ("gptq", Grid(4, 64, True), False),
    "gptq-64": ("gptq", Grid(4, 64, True), True),
    "round-32-asymmetric": ("round", Grid(4, 32, False), True),
    "round-32-asymmetric-largest": ("round", Grid(4, 32, False), False),
    "gptq-32": ("gptq", Grid(4, 32, True), True),
    "gptq-32-asymmetric": ("gptq", Grid(4, 32, False), True),
    "gptq-3bit-32": ("gptq", Grid(3, 32, True), True),
}


def perplexity(checkpoint: Path, corpus: Path, rows: int = 40, row_tokens: int = 512) -> float:
    """exp of the mean loss over `rows` rows of the test split's text."""
    import torch

    from llmtune.corpus.store import read_split
    from llmtune.models.load import load_model, load_tokenizer

    tokenizer, model = load_tokenizer(checkpoint), load_model(checkpoint, dtype="bfloat16")
    stream: list[int] = []
    for document in read_split(corpus, "test"):
        stream += tokenizer(document.text or "", add_special_tokens=False)["input_ids"][: 2 * row_tokens]
    rows = min(rows, len(stream) // row_tokens)
    total = 0.0
    with torch.no_grad():
        for start in range(0, rows * row_tokens, row_tokens):
            ids = torch.tensor([stream[start : start + row_tokens]])
            logits = model(ids).logits[0, :-1].float()
            total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
    return math.exp(total / (rows * (row_tokens - 1)))


def one(args: argparse.Namespace) -> dict[str, float]:
    """Quantize in this process by one way; its figures."""
    from llmtune.compress.quantize import Calibration, quantize

    method, grid, search = WAYS[args.way]
    text = Calibration(args.corpus, args.rows, args.tokens, seed=0) if method == "gptq" else None
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = quantize(args.checkpoint, Path(folder), method=method, grid=grid, calibration=text, scale_search=search)
        seconds = time.perf_counter() - start
        peak = peak_resident()
        return {
            "perplexity": perplexity(Path(folder), args.corpus),
            "seconds": seconds,
            "bytes": found["bytes"],
            "bits": found["bits_per_weight"],
            "peak": peak,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--only", action="append", choices=WAYS, help="a way to run; may be given again")
    parser.add_argument("--rows", type=int, default=64, help="calibration rows")
    parser.add_argument("--tokens", type=int, default=512, help="tokens in a calibration row")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(one(args)))
        return
    base = perplexity(args.checkpoint, args.corpus)
    print("| way | perplexity | x bf16 | seconds | MB | bits a weight | peak GB |\n" + "| --- " * 7 + "|")
    print(f"| bf16 | {base:.2f} | 1 | | | 16 | |", flush=True)
    for way in args.only or WAYS:
        command = [
            sys.executable,
            __file__,
            str(args.checkpoint),
            str(args.corpus),
            "--way",
            way,
            "--rows",
            str(args.rows),
            "--tokens",
            str(args.tokens),
        ]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        row = json.loads(out)
        print(
            f"| {way} | {row['perplexity']:.2f} | {row['perplexity'] / base:.3f} | {row['seconds']:.0f} "
            f"| {row['bytes'] / 1e6:.1f} | {row['bits']:.2f} | {row['peak'] / 1e9:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
