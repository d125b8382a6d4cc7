"""Order statistics by counting: the same values that sorting finds, of any size and with any ties."""

from __future__ import annotations

import numpy as np
import pytest

from difflapse.measure.order import median, neighbours, quantile


def samples(n: int) -> list[np.ndarray]:
    """Values of both signs, of one sign, with many ties, all alike, and over many orders of magnitude."""
    rng = np.random.default_rng(n)
    plain = rng.normal(size=n)
    several = [
        plain,
        np.abs(plain),
        np.round(2 * plain) / 2,
        np.full(n, -1.5),
        plain * 10 ** rng.uniform(-9, 9, n),
    ]
    return [v.astype(np.float32) for v in several]


@pytest.mark.parametrize("n", [1, 2, 3, 40, 255, 256, 257, 258, 1001, 20_000])
def test_values_are_those_of_the_sorted_list(n: int) -> None:
    room = np.empty(n, np.float32)
    for values in samples(n):
        before = values.copy()
        ordered = np.sort(values)
        assert median(values, room) == np.median(values)
        for k in {0, n // 3, n // 2, n - 1}:
            assert neighbours(values, k, room) == (ordered[k], ordered[min(k + 1, n - 1)])
        for share in (0.0, 0.02, 0.5, 0.983, 1.0):
            wanted = np.quantile(values.astype(float), share)
            assert quantile(values, share, room) == pytest.approx(wanted, rel=1e-6, abs=1e-12)
        assert np.array_equal(values, before)
