"""Work in order, a bounded number of items ahead."""

import threading

import pytest

from dps_jax.pipelines.parallel import cores, in_order


def test_results_come_in_order_and_few_items_are_taken_ahead():
    taken, release = [], threading.Event()

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    def work(number):
        if number == 0:
            release.wait(10)  # the first is the slowest
        return number * number

    results = in_order(work, items())
    threading.Timer(0.05, release.set).start()
    assert next(results) == 0
    assert len(taken) <= min(cores(), 8) + 1
    assert list(results) == [n * n for n in range(1, 40)]


def test_a_failure_is_raised_where_its_result_was_due():
    def work(number):
        if number == 3:
            raise ValueError("three")
        return number

    results = in_order(work, range(20))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
