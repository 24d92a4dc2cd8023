"""Where the cells of an HTML table stand: in which row and column."""

from __future__ import annotations

from collections.abc import Iterator

from selectolax.lexbor import LexborNode

# Columns in which a cell may reach down into the next rows, and of a table that is written as one: no page shall fill
# the memory.
WIDEST = 100


def rows_of(table: LexborNode) -> list[dict[int, LexborNode]]:
    """The rows of a table, not those of tables inside it: each cell under the number of its first column."""
    groups = [group for group in table.iter() if group.tag in ("thead", "tbody", "tfoot")]
    return [row for group in groups for row in _placed([row for row in group.iter() if row.tag == "tr"])]


def number_in(said: str | None) -> int:
    """What an attribute says, 1 if that is no number or none that anyone means."""
    return int(said) if said and said.isdecimal() and len(said) < 10 else 1


def _placed(rows: list[LexborNode]) -> Iterator[dict[int, LexborNode]]:
    taken: dict[int, int] = {}  # column -> the first row into which no cell from above reaches
    for number, row in enumerate(rows):
        placed: dict[int, LexborNode] = {}
        column = 0
        for cell in row.iter():
            if cell.tag not in ("td", "th"):
                continue
            while taken.get(column, 0) > number:
                column += 1
            placed[column] = cell
            attributes = cell.attributes
            after = column + max(number_in(attributes.get("colspan")), 1)
            below = number_in(attributes.get("rowspan")) or len(rows)  # 0: down to the last
            if below > 1:
                taken.update(dict.fromkeys(range(column, min(after, WIDEST)), number + below))
            column = after
        yield placed
