"""Grouping of equally long numpy columns, exact and without a loop over rows."""

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def identify(*columns: NDArray[np.generic]) -> tuple[Ids, Ids]:
    """Return numbers for the distinct rows of some columns.

    Of (ids, first), `ids[i]` is the number of row i's value, counted in lexicographic order of the columns, and
    `first[k]` the lowest row with value k. Columns may be of any sortable dtype and equal length.
    """
    size = len(columns[0])
    if not size:
        empty = np.empty(0, dtype=np.int64)
        return empty, empty
    order = np.lexsort(columns[::-1])
    changed = np.zeros(size, dtype=bool)
    changed[0] = True
    for column in columns:
        ordered = column[order]
        changed[1:] |= ordered[1:] != ordered[:-1]
    ids = np.empty(size, dtype=np.int64)
    ids[order] = np.cumsum(changed) - 1
    return ids, order[changed].astype(np.int64)


def pairs(keys: Ids, wanted: Ids) -> tuple[Ids, Ids]:
    """Join on equal keys: return (i, j) for every `wanted[i] == keys[j]`, by i and then by j."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    low = np.searchsorted(ordered, wanted, "left")
    high = np.searchsorted(ordered, wanted, "right")
    counts = high - low
    left = np.repeat(np.arange(len(wanted), dtype=np.int64), counts)
    within = np.arange(len(left), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    return left, order[np.repeat(low, counts) + within].astype(np.int64)


def any_of(left: Ids, chosen: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Tell for each of `size` rows whether any of its pairs (`left` holds the row of a pair) is chosen."""
    found = np.zeros(size, dtype=bool)
    found[left[chosen]] = True
    return found


def first_of(left: Ids, right: Ids, chosen: NDArray[np.bool_], size: int) -> Ids:
    """Return for each of `size` rows the lowest partner among its chosen pairs, or -1."""
    found = np.full(size, -1, dtype=np.int64)
    rows, partners = left[chosen][::-1], right[chosen][::-1]
    order = np.argsort(-partners, kind="stable")
    found[rows[order]] = partners[order]
    return found
