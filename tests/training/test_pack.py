"""Packing: worked by hand, and properties for any lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtune.training.pack import pack


def rows_of(lengths, capacity):
    row_of = pack(np.array(lengths), capacity)
    return [sorted(np.array(lengths)[row_of == row].tolist(), reverse=True) for row in range(int(row_of.max()) + 1)]


def test_worked_by_hand():
    # 10 fills a row; 7 opens one; 6 opens one; 4 fits best beside 6; 3 beside 7; 2 needs a new row, 1 joins it
    assert rows_of([3, 10, 1, 6, 2, 7, 4], 10) == [[10], [7, 3], [6, 4], [2, 1]]


def test_best_fit_takes_the_tightest_row_not_the_first():
    # after 6 and 7, a 3 fits both; first-fit would put it beside the 6 opened later or earlier, best-fit beside the 7
    assert rows_of([6, 7, 3], 10) == [[7, 3], [6]]


def test_order_of_equal_pieces_is_that_of_the_corpus():
    assert pack(np.array([5, 5, 5, 5]), 10).tolist() == [0, 0, 1, 1]


@given(st.lists(st.integers(1, 40), max_size=300), st.integers(40, 64))
def test_no_row_overflows_and_rows_have_no_gaps(lengths, capacity):
    row_of = pack(np.array(lengths, np.int64), capacity)
    used = np.bincount(row_of, weights=lengths) if lengths else np.zeros(0)
    assert len(row_of) == len(lengths)
    assert (used > 0).all()
    assert (used <= capacity).all()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=300), st.integers(40, 64))
def test_no_two_rows_could_have_been_one(lengths, capacity):
    used = np.sort(np.bincount(pack(np.array(lengths), capacity), weights=lengths))
    assert len(used) < 2 or used[0] + used[1] > capacity


@given(st.lists(st.integers(1, 12), min_size=1, max_size=7))
def test_at_most_11_ninths_of_the_best_packing_plus_one(lengths):
    capacity = 12

    def fewest(rest, rooms):  # by trying everything
        if not rest:
            return len(rooms)
        tries = [fewest(rest[1:], [*rooms, capacity - rest[0]])]
        for place in {room: place for place, room in enumerate(rooms) if room >= rest[0]}.values():
            tries.append(fewest(rest[1:], [*rooms[:place], rooms[place] - rest[0], *rooms[place + 1 :]]))
        return min(tries)

    assert int(pack(np.array(lengths), capacity).max()) + 1 <= 11 / 9 * fewest(lengths, []) + 1


def test_fill_on_lengths_like_text():
    lengths = np.minimum(np.random.default_rng(0).lognormal(5, 1.2, 20_000).astype(int) + 1, 512)
    rows = int(pack(lengths, 512).max()) + 1
    assert lengths.sum() / (rows * 512) > 0.99


def test_too_long_a_piece_is_refused():
    with pytest.raises(ValueError, match="1 to 8"):
        pack(np.array([9]), 8)
