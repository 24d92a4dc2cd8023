"""Our training loop beside TRL's SFTTrainer: same model, rows, order, start, optimizer and batch, in turn.

    python benchmarks/train.py                     # LoRA and all weights, two rounds each
    python benchmarks/train.py --methods lora --rounds 1 --steps 4 --model path/to/folder

Needs `pip install --no-deps 'trl==1.16.*' && pip install datasets`. Every row is one document of `--row-tokens` tokens,
so nothing is padded or packed and both see the same tokens. Both compute in bf16 where the machine has arithmetic for
it, else in fp32. Each measurement is a process of its own: tokens a second
from the end of the first step to the end of the last, peak resident memory of the training, and seconds from the start
of the process to the end of its first step. Ends with status 1 when the losses differ by more than noise (--tolerance).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from llmtune.machine import peak_resident

GOALS = {"lora": (1.4, 0.75), "full": (1.5, 0.85)}  # tokens/s at least, peak memory at most, ours / TRL's
RATE = {"lora": 1e-3, "full": 3e-4}
BATCH_ROWS = 4
SEED = 7
CLOCK_START = psutil.Process().create_time()


def main() -> int:
    """Prepare the rows, run the workers in turn, print the table."""
    options = _options()
    if options.worker:
        trainer, method, folder = options.worker
        _worker(trainer, method, Path(folder), options)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder, options)
        good = True
        for method in options.methods:
            results: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
            for _ in range(options.rounds):
                for trainer, found in results.items():
                    found.append(_measure(trainer, method, folder, options))
            good &= _report(method, results, options)
    return 0 if good else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct-q4", help="short name, folder or hub id")
    parser.add_argument("--methods", nargs="+", choices=("lora", "full"), default=["lora", "full"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--row-tokens", type=int, default=512)
    parser.add_argument("--tolerance", type=float, default=0.03, help="largest difference of a step's loss, in nats")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def _prepare(folder: Path, options: argparse.Namespace) -> None:
    """Resolve the model; write a corpus of documents that fill a row each, and the same rows for TRL, in our order."""
    from pydoc_data.topics import topics

    from transformers import AutoTokenizer

    from llmtune.corpus.store import Document, write_split
    from llmtune.models.find import resolve
    from llmtune.models.reference import ModelReference
    from llmtune.seeds import seed_of
    from llmtune.training.data import build_rows
    from llmtune.training.order import rows_of_step

    model = resolve(ModelReference.parse(options.model))
    tokenizer = AutoTokenizer.from_pretrained(model)
    wanted = BATCH_ROWS * options.steps
    documents: list[Document] = []
    for name, text in sorted(topics.items()):
        if len(documents) == wanted:
            break
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for start in range(0, len(ids) - 2 * options.row_tokens, options.row_tokens):
            piece = _piece_of(tokenizer, ids[start:], options.row_tokens - 1)
            if piece is not None and len(documents) < wanted:
                digest = hashlib.sha256(piece.encode()).hexdigest()
                place = f"{name}/{start}"
                documents.append(Document(place, piece, None, "topics", None, digest, place))
    write_split(folder / "corpus", "train", documents)
    rows = build_rows(folder / "corpus", "train", tokenizer, options.row_tokens, cache=folder / "rows")
    assert {len(row.input_ids) for row in rows} == {options.row_tokens}
    order = seed_of(SEED, "order")
    ids = [index for step in range(options.steps) for _, index in rows_of_step(step, len(rows), BATCH_ROWS, order)]
    (folder / "trl.json").write_text(json.dumps([rows[i].input_ids.tolist() for i in ids]))
    (folder / "model.txt").write_text(str(model))


def _piece_of(tokenizer: Any, ids: list[int], length: int) -> str | None:
    """A text that has exactly `length` tokens, so that it and its end token fill a row; None when the cut moves."""
    text = tokenizer.decode(ids[:length])
    again = tokenizer(text, add_special_tokens=False)["input_ids"]
    return text if len(again) == length else None


def _measure(trainer: str, method: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", trainer, method, str(folder), "--steps", str(options.steps)]
    environment = os.environ | {"TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command += ["--row-tokens", str(options.row_tokens)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr[-4000:])
        raise SystemExit(f"{trainer} ({method}) failed with status {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"{method:5} {trainer:5} {result['tokens_per_second']:7.0f} tokens/s  {result['peak'] / 1e9:5.2f} GB  "
        f"first step after {result['first_step']:5.1f} s  losses {[round(x, 3) for x in result['losses']]}",
        flush=True,
    )
    return result


def _report(method: str, results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> bool:
    """Print the ratios of the medians; whether the losses agree."""

    def ratio(key: str) -> float:
        ours, theirs = (statistics.median(r[key] for r in results[name]) for name in ("ours", "trl"))
        return float(ours / theirs)

    speed, memory = GOALS[method]
    pairs = zip(results["ours"][0]["losses"], results["trl"][0]["losses"], strict=True)
    apart = max(abs(ours - theirs) for ours, theirs in pairs)
    agree = apart <= options.tolerance
    print(f"{method}: ours / TRL's, medians of {options.rounds} rounds")
    print(f"  tokens/s      {ratio('tokens_per_second'):5.2f}   (goal ≥ {speed})")
    print(f"  peak memory   {ratio('peak'):5.2f}   (goal ≤ {memory})")
    print(f"  to first step {ratio('first_step'):5.2f}   (goal ≤ 1)")
    print(f"  losses differ by at most {apart:.4f} nats a step: {'agree' if agree else 'DO NOT AGREE'}", flush=True)
    return agree


class _Watch:
    """Times of the ends of steps, and their losses."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def end(self, loss: float) -> None:
        """A step is over."""
        self.ends.append(time.time())
        self.losses.append(loss)

    def result(self, row_tokens: int) -> dict[str, Any]:
        """What the worker prints."""
        tokens = BATCH_ROWS * row_tokens * (len(self.ends) - 1)
        return {
            "losses": self.losses,
            "tokens_per_second": tokens / (self.ends[-1] - self.ends[0]),
            "first_step": self.ends[0] - CLOCK_START,
            "peak": peak_resident(),
        }


def _worker(trainer: str, method: str, folder: Path, options: argparse.Namespace) -> None:
    model = Path((folder / "model.txt").read_text())
    run = _ours if trainer == "ours" else _trl
    print(json.dumps(run(method, model, folder, options)), flush=True)


def _ours(method: str, model: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from llmtune.monitor import Monitor
    from llmtune.training.session import train
    from llmtune.training.settings import TrainSettings

    watch = _Watch()

    class Watching(Monitor):
        def record(self, kind: str, **fields: Any) -> None:
            if kind == "step":
                watch.end(fields["loss"])

    settings = TrainSettings.model_validate(
        {
            "adapter": {"type": "lora", "rank": 16, "alpha": 32} if method == "lora" else None,
            "epochs": 1,
            "row_tokens": options.row_tokens,
            "batch_tokens": BATCH_ROWS * options.row_tokens,
            "micro_batch": BATCH_ROWS,
            "lr": RATE[method],
            "schedule": {"type": "constant", "warmup": 0},
            "optimizer": {"weight_decay": 0},
            "checkpoint_steps": 1000,
        }
    )
    with tempfile.TemporaryDirectory() as name:
        output, work = Path(name, "output"), Path(name, "work")
        output.mkdir()
        metrics = train(model, folder / "corpus", settings, output=output, work=work, seed=SEED, monitor=Watching())
    return watch.result(options.row_tokens) | {"peak": metrics["peak_memory"]}


def _trl(method: str, model: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from llmtune.machine import this_machine
    from llmtune.models.adapters import AdapterSettings, attach
    from llmtune.seeds import seed_of
    from llmtune.training.precision import chosen_precision

    watch = _Watch()

    class Watching(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
            if "loss" in logs:
                watch.end(float(logs["loss"]))

    bf16 = chosen_precision("auto", "auto", this_machine()) == "bf16"
    dtype = "bfloat16" if bf16 and method == "lora" else "float32"
    start: Any = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    if method == "lora":  # the same first weights as ours, so that the losses can be compared
        start = attach(start, AdapterSettings(rank=16, alpha=32), seed_of(SEED, "adapter"))
    rows = json.loads((folder / "trl.json").read_text())
    with tempfile.TemporaryDirectory() as name:
        config = SFTConfig(
            output_dir=name,
            max_length=options.row_tokens,
            per_device_train_batch_size=BATCH_ROWS,
            num_train_epochs=1,
            learning_rate=RATE[method],
            lr_scheduler_type="constant",
            warmup_steps=0,
            weight_decay=0.0,
            adam_beta2=0.95,
            max_grad_norm=1.0,
            bf16=bf16,
            use_cpu=not torch.cuda.is_available(),
            gradient_checkpointing=False,
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=start,
            args=config,
            train_dataset=Dataset.from_dict({"input_ids": rows}),
            processing_class=AutoTokenizer.from_pretrained(model),
            callbacks=[Watching()],
        )
        trainer.train()
    return watch.result(options.row_tokens)


if __name__ == "__main__":
    sys.exit(main())
