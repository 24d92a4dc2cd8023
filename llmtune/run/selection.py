"""Which stages of a recipe to run, by id."""

from __future__ import annotations

from dataclasses import dataclass

from llmtune.errors import RecipeError
from llmtune.recipe.graph import ANSWERS


@dataclass(frozen=True)
class Selection:
    """Which stages to run, by id: `only` one, or those `first` … `last`, or `exactly` these; `again` makes them anew
    even when done."""

    only: str | None = None
    first: str | None = None
    last: str | None = None
    exactly: frozenset[str] | None = None
    again: bool = False

    def ids(self, all_ids: list[str]) -> set[str]:
        """The selected ids. But for `exactly`, what belongs to a stage goes with it. Raises RecipeError for an id the
        recipe has not, and for choices that contradict each other."""
        if self.exactly is not None:
            return set(self.exactly)
        if self.only and (self.first or self.last):
            raise RecipeError("--only is one stage, --from and --until are several", where="command line")
        for name in (self.only, self.first, self.last):
            if name is not None and name not in all_ids:
                raise RecipeError(
                    f"no stage has the id '{name}'", where="command line", fix=f"stages: {', '.join(all_ids)}"
                )
        first = self.only or self.first
        last = self.only or self.last
        start = all_ids.index(first) if first else 0
        end = all_ids.index(last) + 1 if last else len(all_ids)
        if start >= end:
            raise RecipeError(f"--until {last} comes before --from {first}", where="command line", fix="exchange them")
        chosen = all_ids[start:end]
        return set(chosen) | {name for name in all_ids if _belongs_to(name) in chosen}


def _belongs_to(name: str) -> str | None:
    """The stage that a node goes with: its evaluation, and a model that it alone takes (`distill.teacher`); the answers
    for the report stand at the end and are chosen like stages."""
    return None if name.endswith(ANSWERS) else name.rpartition(".")[0] or None
