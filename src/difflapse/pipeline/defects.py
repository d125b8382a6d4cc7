"""What the sensor is like, from a few frames spread over the night: hot and dead pixels, noise, where it saturates.

Nothing but reading and measuring is needed here, so that it can begin while the rest of the program is still loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from difflapse.errors import FrameError
from difflapse.io.fits import compact, read_frame
from difflapse.measure import Defects, common_clip_level, find_defects, is_plausible, saturation_of
from difflapse.measure.transfer import Transfer, photon_transfer
from difflapse.model import Frame, FrameFacts

DEFECT_FRAMES = 6


def search_sensor(frames: Sequence[FrameFacts], threads: int) -> tuple[Defects, Transfer]:
    """Read a few of a night's frames and compare them; those that cannot be read do not count."""
    n = len(frames)
    chosen = np.unique(np.linspace(0, n - 1, min(n, DEFECT_FRAMES)).round().astype(int))
    with ThreadPoolExecutor(threads) as pool:
        read = [pixels for pixels in pool.map(lambda k: _readable(frames[k]), chosen) if pixels is not None]
    facts = frames[0]
    defects = find_defects(read, facts.mosaic, threads=threads)
    # A hot pixel is not saturated, nor is a column that is stuck.
    cut = common_clip_level(read, np.unique(defects.y * facts.shape[1] + defects.x))
    defects = replace(defects, cut_adu=cut, header_holds=is_plausible(facts, read))
    saturation = saturation_of(facts, cut, defects.header_holds)
    return defects, photon_transfer(read, facts.mosaic, facts.bias_adu, saturation)


def _readable(facts: FrameFacts) -> np.ndarray | None:
    """A frame's pixels; None if it cannot be read or has too many bad ones."""
    try:
        frame = read_frame(facts)
    except FrameError:
        return None
    return _filled(frame) if frame.mask is None or frame.mask.mean() < 0.1 else None


def _filled(frame: Frame) -> np.ndarray:
    """A frame's pixels in a small type, bad ones at the median."""
    data = compact(frame.data)
    return data if frame.mask is None else np.where(frame.mask, np.median(data), data).astype(data.dtype)
