"""Every schedule in the reports of the course, against hand-computed values."""

import pytest

from training.schedules import kl_weight, learning_rate, teacher_forcing_ratio


def forcing(epochs, **flags):
    defaults = {"start": 1.0, "decay_start": 10, "step": 0.1, "floor": 0.0, "interval": 1}
    return [teacher_forcing_ratio(epoch, **defaults | flags) for epoch in epochs]


def test_the_ratio_of_the_course_is_constant_and_then_decays_every_epoch():
    assert forcing([0, 9, 10, 11, 18, 19, 20, 69]) == pytest.approx([1, 1, 0.9, 0.8, 0.1, 0, 0, 0])


def test_the_ratio_stays_at_the_floor():
    assert forcing([10, 15, 16, 60], floor=0.4) == pytest.approx([0.9, 0.4, 0.4, 0.4])


def test_the_ratio_decays_at_every_tenth_epoch_down_to_a_floor():
    assert forcing([9, 10, 19, 20, 70, 80, 200], interval=10, floor=0.3) == pytest.approx([1, 0.9, 0.9, 0.8, 0.3, 0.3, 0.3])


def test_the_ratio_decays_linearly_to_zero_at_the_last_epoch():
    ratios = forcing(range(50), decay_start=10, step=1 / 40)
    assert ratios[9] == 1 and ratios[29] == pytest.approx(0.5) and ratios[49] == pytest.approx(0)


def test_a_constant_ratio():
    assert forcing([0, 10, 500], start=0.3, step=0.0) == [0.3, 0.3, 0.3]


def test_the_ratio_reaches_zero_exactly():
    """1 - 10 * 0.1 is 1e-16 in floating point, and a scheduled-sampling draw can be smaller than that."""
    assert forcing([19]) == [0]


def test_a_floor_above_the_start_does_not_raise_the_ratio():
    assert forcing([0, 30], start=0.2, floor=0.5) == [0.2, 0.2]


def beta(at, **flags):
    defaults = {"epochs": 20, "kind": "Cyclical", "cycles": 2, "ratio": 0.5}
    return [kl_weight(epoch, **defaults | flags) for epoch in at]


def test_cyclical_annealing_rises_over_the_ratio_in_every_cycle():
    """This is the schedule of Fu et al. 2019, with 2 cycles of 10 epochs. beta rises over the first half of each cycle."""
    assert beta([0, 1, 4, 5, 9, 10, 11, 15, 19]) == pytest.approx([0, 0.2, 0.8, 1, 1, 0, 0.2, 1, 1])


@pytest.mark.parametrize("cycles", [3, 7, 10, 100])
def test_every_cycle_begins_at_zero(cycles):
    """For cycles that start at whole epochs, the remainder of a float division was once just below 1."""
    starts = [10 * i / cycles for i in range(cycles)]
    assert beta(starts, epochs=10, cycles=cycles, ratio=1.0) == pytest.approx([0] * cycles, abs=1e-6)


def test_monotonic_annealing_is_one_rise():
    assert beta([0, 5, 10, 19], kind="Monotonic") == pytest.approx([0, 0.5, 1, 1])


def test_without_annealing_beta_is_one_throughout():
    assert beta(range(20), kind="None") == [1] * 20


@pytest.mark.parametrize("epochs, cycles", [(1, 10), (3, 10), (7, 3), (500, 10)])
def test_any_number_of_epochs_and_cycles_gives_weights_between_zero_and_one(epochs, cycles):
    """In public solutions, a table of weights ends one entry too early."""
    assert all(0 <= value <= 1 for value in beta(range(epochs), epochs=epochs, cycles=cycles))


def test_cycles_shorter_than_an_epoch_still_anneal():
    """With ten cycles in five epochs, beta would always be 0 if it changed at whole epochs only."""
    assert beta([0, 0.125, 0.25, 0.4, 0.5], epochs=5, cycles=10, ratio=1.0) == pytest.approx([0, 0.25, 0.5, 0.8, 0])


def rates(epochs, kind, **flags):
    defaults = {"epochs": 10, "base": 2.0, "warmup": 0.0, "step_epochs": 4, "gamma": 0.5, "final": 0.0}
    return [learning_rate(epoch, kind=kind, **defaults | flags) for epoch in epochs]


def test_learning_rates_of_every_schedule():
    assert rates([0, 5, 10], "constant") == [2, 2, 2]
    assert rates([0.5, 3.9, 4, 8.5], "step") == [2, 2, 1, 0.5]
    assert rates([0.5, 1, 2.7], "exponential") == [2, 1, 0.5]
    assert rates([0, 5, 10], "cosine") == pytest.approx([2, 1, 0])
    assert rates([0, 5, 10], "cosine", final=0.5) == pytest.approx([2, 1.5, 1])


@pytest.mark.parametrize("kind", ["constant", "step", "exponential", "cosine"])
def test_warm_up_rises_from_zero(kind):
    assert rates([0, 0.5], kind, warmup=1.0) == pytest.approx([0, 1])
    assert rates([0.5], kind, warmup=20.0)[0] > 0


def test_the_cosine_begins_at_the_end_of_the_warm_up():
    assert rates([2, 6, 10], "cosine", warmup=2.0) == pytest.approx([2, 1, 0])
