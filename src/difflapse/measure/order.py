"""Order statistics of many values, exact, for kernels: counted by their bits, never sorted as a whole."""

from __future__ import annotations

import numba
import numpy as np

_SHIFT = 19
"""Bits of a float that are not looked at first: it is counted by its sign, its exponent and 4 bits more."""
_BINS = 1 << (32 - _SHIFT)
_GROUP = 64
_FEW = 256
"""So many values are not worth counting."""


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def median(values: np.ndarray, room: np.ndarray) -> np.float32:
    """Median of values (n,) float32, all finite, n >= 1; `room` (n,) float32 is written into."""
    n = len(values)
    low, high = neighbours(values, (n - 1) // 2, room)
    return np.float32(0.5) * (low + high) if n % 2 == 0 else low


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def quantile(values: np.ndarray, share: float, room: np.ndarray) -> float:
    """The value below which a share of the values (as `median`) lies, between two of them by linear interpolation."""
    at = share * (len(values) - 1)
    k = int(at)
    low, high = neighbours(values, k, room)
    return float(low) + (at - k) * (float(high) - float(low))


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def neighbours(values: np.ndarray, k: int, room: np.ndarray) -> tuple[np.float32, np.float32]:
    """The k-th smallest of the values (as `median`), from 0 on, and the next in order (or the same, if it is last)."""
    n = len(values)
    if n <= _FEW:
        room[:n] = values
        return chosen(room[:n], k, k + 1 < n)
    bits = values.view(np.int32)
    count = np.zeros(_BINS, np.int32)
    half = _BINS // 2
    for i in range(n):
        b = bits[i]
        # Floats are ordered as whole numbers are, the negative ones the other way round.
        count[((b ^ ((b >> 31) & 0x7FFFFFFF)) >> _SHIFT) + half] += 1
    # By many bins at once, as long as all of them are below.
    groups = count.reshape(_BINS // _GROUP, _GROUP)
    first, below = 0, 0
    for g in range(len(groups)):
        total = np.int32(0)
        for i in range(_GROUP):
            total += groups[g, i]
        if below + total > k:
            first = g * _GROUP
            break
        below += int(total)
    while below + count[first] <= k:
        below += count[first]
        first += 1
    last = first
    if below + count[first] == k + 1 and k + 1 < n:
        # The next one is the smallest of a later bin.
        last += 1
        while count[last] == 0:
            last += 1
    m = 0
    low, high = first - half, last - half
    for i in range(n):
        b = bits[i]
        bin = (b ^ ((b >> 31) & 0x7FFFFFFF)) >> _SHIFT
        # Written always, counted where it belongs: nothing to guess.
        room[m] = values[i]
        m += (bin >= low) & (bin <= high)
    return chosen(room[:m], k - below, k + 1 < n)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def chosen(values: np.ndarray, k: int, more: bool) -> tuple[np.float32, np.float32]:
    """The k-th smallest of the values and the next; they are put into another order."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    found = values[k]
    if not more:
        return found, found
    following = np.float32(np.inf)
    for i in range(k + 1, len(values)):
        following = min(following, values[i])
    return found, following
