"""Order statistics of many values, exact, for kernels: looked for between two of some of them, never sorted as a whole.

Where that fails they are counted by their bits.
"""

from __future__ import annotations

import numba
import numpy as np

_SHIFT = 19
"""Bits of a float that are not looked at first: it is counted by its sign, its exponent and 4 bits more."""
_BINS = 1 << (32 - _SHIFT)
_FEW = 256
"""So many values are not worth counting."""
_SURE = 4.0
"""Standard deviations of a rank among some of the values by which a bracket is wider than it need be."""


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
    low, high = _bracket(values, k, room)
    below, m = 0, 0
    for i in range(n):
        v = values[i]
        # Written always, counted where it belongs: nothing to guess.
        room[m] = v
        m += (v >= low) & (v <= high)
        below += v < low
    if below <= k and (k + 1 < below + m or (k + 1 == n and k < below + m)):
        return chosen(room[:m], k - below, k + 1 < n)
    return _counted(values, k, room)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _bracket(values: np.ndarray, k: int, room: np.ndarray) -> tuple[np.float32, np.float32]:
    """Two values between which the k-th smallest and the next lie, most likely, from every so many-th of them."""
    n = len(values)
    some = int(n ** (2 / 3))
    stride = n // some
    for i in range(some):
        room[i] = values[i * stride]
    share = k / n
    reach = _SURE * np.sqrt(some * share * (1 - share)) + 2
    first, last = int(share * some - reach), int(share * some + reach) + 1
    low, high = np.float32(-np.inf), np.float32(np.inf)
    if share * some >= reach:
        low = chosen(room[:some], first, False)[0]
    if last < some:
        high = chosen(room[:some], last, False)[0]
    return low, high


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _counted(values: np.ndarray, k: int, room: np.ndarray) -> tuple[np.float32, np.float32]:
    """As `neighbours`, of many values of any order."""
    n = len(values)
    bits = values.view(np.int32)
    count = np.zeros(_BINS, np.int32)
    half = _BINS // 2
    for i in range(n):
        b = bits[i]
        # Floats are ordered as whole numbers are, the negative ones the other way round.
        count[((b ^ ((b >> 31) & 0x7FFFFFFF)) >> _SHIFT) + half] += 1
    first, below = 0, 0
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
