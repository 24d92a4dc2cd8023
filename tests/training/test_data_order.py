"""The order of rows: every row once an epoch, a pure function of the step."""

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from llmtune.training.order import epoch_order, rows_of_step


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_each_row_once_before_any_row_twice(rows, batch_rows, seed):
    steps = -(-3 * rows // batch_rows)
    read = [sample for step in range(steps) for sample in rows_of_step(step, rows, batch_rows, seed)]
    assert len(read) == steps * batch_rows
    for epoch in range(3):
        inside = read[epoch * rows : (epoch + 1) * rows]
        assert Counter(sample.row for sample in inside) == Counter(range(rows))
        assert {sample.epoch for sample in inside} == {epoch}


def test_a_step_does_not_depend_on_the_steps_before():
    in_order = [rows_of_step(step, 10, 4, 3) for step in range(8)]
    epoch_order.cache_clear()
    assert rows_of_step(7, 10, 4, 3) == in_order[7]
    assert rows_of_step(2, 10, 4, 3) == in_order[2]


def test_last_incomplete_batch_is_completed_by_the_next_epoch():
    batch = rows_of_step(2, 10, 4, 0)
    assert [sample.epoch for sample in batch] == [0, 0, 1, 1]
    assert [sample.row for sample in batch[2:]] == list(islice(epoch_order(0, 1, 10), 2))


def test_epochs_and_seeds_are_shuffled_differently():
    orders = {tuple(epoch_order(seed, epoch, 50).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert tuple(range(50)) not in orders


def test_the_order_itself_stays_what_it_is():
    # Philox bits are promised by numpy; were this to change, resumed runs would read other rows
    assert epoch_order(7, 0, 8).tolist() == [4, 1, 6, 3, 2, 7, 5, 0]
