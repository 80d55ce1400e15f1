"""Says how much of a workload's behaviour was seen, with a bound that holds and a list of what did not happen yet.

The chance that the next hour brings something new is estimated by the share of hours that hold a pattern seen in no
other (leave one out), and bounded exactly (Clopper and Pearson: "The use of confidence or fiducial limits illustrated in
the case of the binomial", Biometrika 26, 1934).
"""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from learner.inventory import Inventory, PodVersion
from learner.patterns import LEARNING, STATES, Convergence
from recorder.records import SECOND

DAY = 86400 * SECOND

REVISION_LABELS = {
    "Deployment": "pod-template-hash",
    "StatefulSet": "controller-revision-hash",
    "DaemonSet": "controller-revision-hash",
}

Interval = tuple[int, int]
"""Start and end (exclusive) of a stretch of time, µs."""


@lru_cache(maxsize=65536)
def upper_bound(successes: int, trials: int, confidence: float = 0.95) -> float:
    """Return the one-sided Clopper-Pearson upper bound: the p with P(X <= successes | trials, p) = 1 - confidence."""
    if successes >= trials:
        return 1.0
    low, high = successes / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(successes, trials, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return round(high, 9)


def _at_most(successes: int, trials: int, share: float) -> float:
    """Return P(X <= successes) of a binomial; summed from the largest term down, which is exact and never underflows."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    log = (
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(share)
        + (trials - successes) * math.log1p(-share)
    )
    term = total = 1.0
    for count in range(successes, 0, -1):
        term *= count * (1 - share) / ((trials - count + 1) * share)
        total += term
        if term < total * 1e-17:
            break
    return math.exp(log) * total


def wilson(successes: int, trials: int) -> dict[str, float] | None:
    """Return the 95 % interval of a share (Wilson: "Probable inference", JASA 22, 1927); None without trials."""
    if trials <= 0:
        return None
    z = 1.959963984540054
    share = successes / trials
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return {"low": round(max(0.0, middle - half), 9), "high": round(min(1.0, middle + half), 9)}


def units_of(stretches: Iterable[Interval], unit: int) -> set[int]:
    """Return the starts of all units of time that a stretch touches."""
    found: set[int] = set()
    for start, end in stretches:
        found.update(range(start - start % unit, end, unit))
    return found


def converge(
    exposed: Sequence[Interval],
    lonely: Iterable[int],
    *,
    unit: int,
    grid: int,
    days: int,
    target: float,
    confidence: float,
    not_seen: Sequence[str] = (),
) -> Convergence:
    """Return a subject's convergence.

    `exposed` are the stretches in which it was watched, `lonely` the units that hold a pattern seen in no other, `unit`
    and `grid` the length of a unit and of a window in µs, `days` the exposed days and `target` the bound that STABLE
    asks for.
    """
    units = units_of(exposed, unit)
    windows = sum(end - start for start, end in exposed) // grid
    if not units:
        return Convergence(windows, None, None, LEARNING, tuple(not_seen))
    alone = len(units.intersection(lonely))
    bound = upper_bound(alone, len(units), confidence)
    met = (len(units) * unit >= days * DAY) + (bound <= target)
    return Convergence(
        windows,
        round(alone / len(units), 9),
        bound,
        STATES[met],
        tuple(not_seen),
    )


def not_seen(
    pods: Sequence[PodVersion], exposed: Sequence[Interval], inventory: Inventory, *, begin: int, ran: frozenset[str]
) -> list[str]:
    """Return what did not happen while a workload was watched.

    Codes: `start`, `rollout`, `weekend`, `month-end`, and `cronjob/namespace/name` for each CronJob of its namespace that
    never ran; `begin` is the recording's first window, `ran` the workloads that had pods.
    """
    found = []
    if not any(pod.start > begin and pod.start_basis not in {"list", "carried"} for pod in pods):
        found.append("start")
    label = REVISION_LABELS.get(pods[0].owner_kind)
    if label and len({pod.labels.get(label) for pod in pods}) < 2:
        found.append("rollout")
    days = [datetime.fromtimestamp(start / SECOND, UTC) for start in units_of(exposed, DAY)]
    if not any(day.weekday() >= 5 for day in days):
        found.append("weekend")
    if not any((day + timedelta(days=1)).day == 1 for day in days):
        found.append("month-end")
    namespace = pods[0].namespace
    names = {job.name for job in inventory.kind("CronJob") if job.namespace == namespace}
    found += [f"cronjob/{namespace}/{name}" for name in names if f"{namespace}/cronjob/{name}" not in ran]
    return sorted(found)
