"""How much was seen: the bound against closed forms, the states, and what did not happen."""

from pathlib import Path

import pytest

from learner import Thresholds, learn
from learner.convergence import DAY, converge, upper_bound, wilson
from learner.patterns import CONVERGING, LEARNING, STABLE, Convergence
from recorder.records import SECOND
from tests.recordings import DAY as DAY_SECONDS
from tests.recordings import Story

HOUR = 3600 * SECOND


@pytest.mark.parametrize("trials", [1, 10, 168, 336, 100_000])
def test_bound_without_successes(trials: int) -> None:
    """With none of T, (1 - p)^T = 0.05."""
    assert upper_bound(0, trials) == pytest.approx(1 - 0.05 ** (1 / trials), abs=1e-9)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [(1, 10, 0.394163), (5, 10, 0.777559), (9, 10, 0.994884), (10, 10, 1.0), (2, 168, 0.037016)],
)
def test_bound_by_the_binomial_tail(successes: int, trials: int, expected: float) -> None:
    """The bound is the share at which so few successes have a chance of 5 %, summed here term by term."""
    from math import comb

    bound = upper_bound(successes, trials)
    if successes < trials:
        tail = sum(comb(trials, k) * bound**k * (1 - bound) ** (trials - k) for k in range(successes + 1))
        assert tail == pytest.approx(0.05, abs=1e-6)
    if trials == 10:
        assert bound == pytest.approx(expected, abs=1e-5)


def test_wilson_by_hand() -> None:
    """Half of ten lies between .237 and .763; no trials, no interval."""
    found = wilson(5, 10)
    assert found == pytest.approx({"low": 0.236593, "high": 0.763407}, abs=1e-6)
    assert wilson(0, 0) is None


def hours(count: int, lonely: int = 0) -> Convergence:
    """Return the convergence of a subject watched that many hours, some of which hold something seen in no other."""
    return converge(
        [(0, count * HOUR)],
        [hour * HOUR for hour in range(lonely)],
        unit=HOUR,
        grid=60 * SECOND,
        days=14,
        target=0.02,
        confidence=0.95,
    )


def test_states_need_days_and_bound() -> None:
    """STABLE needs 14 exposed days and the bound, either alone is CONVERGING, neither is LEARNING."""
    assert hours(100).state == LEARNING
    assert hours(7 * 24).state == CONVERGING
    assert hours(14 * 24, lonely=20).state == CONVERGING
    assert hours(14 * 24).state == STABLE
    assert hours(0).bound is None
    assert hours(48).windows_exposed == 48 * 60


def test_quiet_hours_lower_the_estimate() -> None:
    """Appending hours without anything new never raises estimate or bound."""
    found = [hours(count, lonely=3) for count in (5, 50, 500)]
    estimates = [one.estimate for one in found if one.estimate is not None]
    bounds = [one.bound for one in found if one.bound is not None]
    assert estimates == sorted(estimates, reverse=True)
    assert bounds == sorted(bounds, reverse=True)


def test_lonely_units_outside_the_exposure_do_not_count() -> None:
    """Something new in an hour in which the subject was not watched is no share of those in which it was."""
    found = converge([(0, 10 * HOUR)], [50 * HOUR], unit=HOUR, grid=60 * SECOND, days=14, target=0.02, confidence=0.95)
    assert found.estimate == 0


def story(days: int = 1) -> Story:
    """Return web talking to cart twice a day."""
    made = Story(window=3600)
    made.workload("shop/deployment/web")
    made.workload("shop/deployment/cart", ports=[7070])
    made.talk(
        "shop/web-1", "shop/cart-1", 7070, at=[day * DAY_SECONDS + hour for day in range(days) for hour in (0, 7200)]
    )
    return made


def state(made: Story, folder: Path, *, until: float, **options: Thresholds) -> Convergence:
    """Return how far web has converged."""
    found = learn(made.write(folder, until=until), **options)
    return next(one.convergence for one in found.subjects if one.workload == "shop/deployment/web")


def test_exposure_needs_clean_coverage(tmp_path: Path) -> None:
    """Windows with a gap on the pod's node, and those before and after its life, do not expose it."""
    made = Story()
    made.pod("shop/web-1", owner="Deployment/web", start=120, end=500)
    made.workload("shop/deployment/cart", ports=[7070], node="node-b")
    made.talk("shop/web-1", "shop/cart-1", 7070, at=[130])
    made.gap("node-a", at=[180, 240])
    assert state(made, tmp_path, until=1200).windows_exposed == 5  # 120, 300, 360, 420, 480


@pytest.mark.parametrize(
    "change",
    [
        {"gap": True},
        {"scope": "partial"},
        {"dropped": 1, "packets": 100},
        {"unresolved": 1},
        {"ambiguous": 1},
        {"watch_lag_seconds": 31.0},
    ],
)
def test_what_makes_a_window_unclean(
    tmp_path: Path, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap, partial scope, drops, unknown ends or a late watch keep a window from exposing its pods."""
    from dataclasses import replace

    made = story()
    before = made.coverage(DAY_SECONDS)
    spoilt = [replace(row, **change) if row.ring == "tcp" and row.window_start % DAY == 0 else row for row in before]
    monkeypatch.setattr(Story, "coverage", lambda *_, **__: spoilt)
    assert state(made, tmp_path, until=DAY_SECONDS).windows_exposed == 23


def test_one_new_thing_in_many_hours(tmp_path: Path) -> None:
    """One hour of a day that holds a pattern seen in no other gives 1/24."""
    made = story()
    made.talk("shop/web-1", "203.0.113.10", 443, at=[10800])
    found = state(made, tmp_path, until=DAY_SECONDS)
    assert found.estimate == pytest.approx(1 / 24, abs=1e-6)
    assert found.bound == upper_bound(1, 24)


def test_rejected_patterns_are_no_behaviour(tmp_path: Path) -> None:
    """What is rejected, answered or not, leaves the convergence of those it reached as it is."""
    made = story()
    made.workload("shop/deployment/odd")
    made.talk("shop/odd-1", "shop/web-1", 80, at=[10800])
    for number in range(9):
        made.talk("shop/odd-1", f"unresolved/10.0.9.{number}", 22, at=[10800], answered=0, unanswered=1)
    assert state(made, tmp_path, until=DAY_SECONDS).estimate == 0


def test_a_fortnight_converges(tmp_path: Path) -> None:
    """Fourteen clean days without news make a subject stable."""
    found = state(story(days=14), tmp_path, until=14 * DAY_SECONDS)
    assert (found.state, found.windows_exposed) == (STABLE, 336)


def test_what_was_not_seen(tmp_path: Path) -> None:
    """Start, rollout, weekend, month end and CronJobs that never ran are named until they happen."""
    made = story()
    made.add("CronJob", "shop/backup", {"spec": {"schedule": "0 3 1 * *"}})
    made.add("CronJob", "elsewhere/backup", {"spec": {"schedule": "0 3 1 * *"}})
    assert state(made, tmp_path / "day", until=DAY_SECONDS).not_seen == (
        "cronjob/shop/backup",
        "month-end",
        "rollout",
        "start",
        "weekend",
    )
    made.pod("shop/web-2", owner="Deployment/web", labels={"app": "web", "pod-template-hash": "2"}, start=60)
    made.pod("shop/backup-1", owner="CronJob/backup", labels={"app": "backup"}, start=60, end=120)
    assert state(made, tmp_path / "month", until=31 * DAY_SECONDS).not_seen == ()
