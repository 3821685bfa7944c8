from __future__ import annotations

from orchestrator.scheduling.clock import steady


def test_a_wall_clock_that_is_set_does_not_move_the_time_of_a_run() -> None:
    wall, monotonic = [1000.0], [5.0]
    now = steady(wall=lambda: wall[0], monotonic=lambda: monotonic[0])
    for wall[0] in (-80_000.0, 80_000.0):
        monotonic[0] += 10
        assert now() == 1000.0 + monotonic[0] - 5.0


def test_after_a_restart_time_goes_on_where_the_clock_was_set_back() -> None:
    assert steady(2000.0, wall=lambda: 1000.0, monotonic=lambda: 7.0)() == 2000.0
    assert steady(2000.0, wall=lambda: 3000.0, monotonic=lambda: 7.0)() == 3000.0
