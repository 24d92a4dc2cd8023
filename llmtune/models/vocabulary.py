"""Which number each token has in a model's folder, read without transformers: cheap enough for a plan."""

from __future__ import annotations

from pathlib import Path


def conflict(one: Path, other: Path) -> str | None:
    """A token that has another number in each of two model folders, as a phrase; None where there is none, or where a
    folder has no `tokenizer.json` that can be read. Tokens of one folder alone are no conflict: some are added when the
    tokenizer is loaded."""
    first, second = _numbers(one), _numbers(other)
    for token in sorted(first.keys() & second.keys(), key=lambda token: first[token]):
        if first[token] != second[token]:
            return f"token {token!r} has number {first[token]} beside {second[token]}"
    return None


def _numbers(folder: Path) -> dict[str, int]:
    from tokenizers import Tokenizer

    try:
        return dict(Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True))
    except Exception:  # the library raises no other; loading the tokenizer will say what is wrong with it
        return {}
