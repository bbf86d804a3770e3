"""Waiting before a retry."""

from common.backoff import Backoff


def test_delays_double_up_to_the_longest_and_begin_again() -> None:
    """Each delay lies between half of its step and the step; steps double to the cap; a reset begins anew."""
    backoff = Backoff(1.0, 8.0)
    for step in (1, 2, 4, 8, 8, 8):
        assert step / 2 <= backoff.next() <= step
    backoff.reset()
    assert backoff.next() <= 1.0


def test_many_tries_do_not_overflow() -> None:
    """After weeks of trying the delay is still the longest one."""
    backoff = Backoff(0.1, 2.0)
    backoff.tries = 100_000
    assert 1.0 <= backoff.next() <= 2.0
