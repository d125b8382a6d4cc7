"""Memory and scratch space of a run, foreseen from the size of its frames, and the workers that fit."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from difflapse.errors import OptionError
from difflapse.model import Inventory, Sequence
from difflapse.mosaic import channels
from difflapse.pipeline.config import RunOptions, parse_memory
from difflapse.pipeline.crop import typical_frame
from difflapse.pipeline.defects import DEFECT_FRAMES
from difflapse.pipeline.external import foreseen_grid
from difflapse.pipeline.follow import CELL, COMET_FRAMES
from difflapse.pipeline.night_stages import mode_for, template_size
from difflapse.pipeline.pictures import difference_bytes, kept_bytes, movie_layout
from difflapse.pipeline.plant import planted_bytes
from difflapse.pipeline.pool import KEPT, Pool, cores
from difflapse.pipeline.sight import PLACE_FRAMES
from difflapse.pipeline.starlight import MOST_STARS, MOST_SUMS
from difflapse.pipeline.tasks import CHUNK, neighbours_kept

SMALL_NIGHT = 30_000_000
"""Native pixels in a night below which starting worker processes costs more than it saves."""
_PROCESS = 250_000_000
"""A process with its libraries loaded."""
_DEFAULT = 3_000_000_000
_COMET_COPIES = 6
"""Of the small pictures that a comet is looked for on."""


@dataclass(frozen=True)
class Need:
    """What a run needs at its peak."""

    memory_bytes: int
    """All processes together, resident."""
    scratch_bytes: int
    """Temporary files in the output folder."""


def choose_workers(inventory: Inventory, options: RunOptions) -> int:
    """Processes a run uses: as asked for, or one per core unless the night is small; as many as memory allows.

    Raises
    ------
    OptionError
        Not even one worker fits into the memory that was given.
    """
    pixels = sum(f.shape[0] * f.shape[1] for s in inventory.sequences for f in s.frames)
    wanted = options.workers or (1 if pixels < SMALL_NIGHT else cores())
    limit = parse_memory(options.memory) if options.memory else max(_DEFAULT, _machine_memory() // 2)
    for workers in range(wanted, 0, -1):
        need = max((foresee(s, options, workers).memory_bytes for s in inventory.sequences), default=0)
        if need <= limit:
            return workers
    if not options.memory:
        return 1
    raise OptionError(
        f"--memory is {options.memory}, but frames of this size need about {need / 1e9:.1f} GB with one worker",
        "give more --memory, or a crop with --roi",
    )


def foresee(sequence: Sequence, options: RunOptions, workers: int) -> Need:
    """Foresee memory and scratch of one sequence.

    The peak of a worker is its raw frame twice (file and pixels), the planes, the warped image with mask and coverage,
    the difference, and the neighbours it keeps; the template is shared by all workers. Finding the sensor's defects
    takes a few whole frames, while workers have nothing but their libraries.
    """
    facts = typical_frame(sequence.frames, options)
    grid = foreseen_grid(sequence.frames, options)
    n_channels = len(channels(facts.mosaic))
    mode = mode_for(options, len(sequence.frames))
    members = (
        template_size(len(sequence.frames), options) if mode == "template" and not options.template else 1
    )
    native = facts.shape[0] * facts.shape[1]
    product = grid.shape[0] * grid.shape[1]
    if options.follow == ("comet",):
        product = max(product, native // grid.step**2)  # the whole of each frame is searched
    raw = native * np.dtype(facts.dtype).itemsize
    picture = 4 * n_channels * product
    worker = _PROCESS + 2 * raw + 4 * native + 2 * picture + 30 * product
    worker += neighbours_kept(mode, options) * (picture + product)
    sensor = min(len(sequence.frames), DEFECT_FRAMES) * raw + native
    template = (2 * picture + product) if mode == "template" else 0
    sorts = 2 * product if mode != "none" else 0
    worker += 8 * product  # the difference in sigma, filtered
    if workers > 1:
        # What it keeps for the next frame's arrays fits them only in part.
        worker += min(KEPT, 4 * (worker - _PROCESS) // 5)
    waiting = 25_000_000 * (workers + 1) * (CHUNK if mode in ("running", "rolling") and workers > 1 else 1)
    sums = min(MOST_SUMS, len(sequence.frames) * min(MOST_STARS, product // 100)) * options.changes
    main = _PROCESS + 100_000_000 + picture + waiting
    if options.follow == ("comet",):
        main += _COMET_COPIES * 4 * COMET_FRAMES * native // CELL**2
    peak = (
        max(workers * worker, workers * _PROCESS + sensor) if workers > 1 else max(worker - _PROCESS, sensor)
    )
    # Each star's light on each frame; even rich fields have fewer than one to 100 pixels.
    light = 4 * (2 * n_channels + 3) * sums
    scratch = members * (picture + (2 if members > 1 else 1) * product) + template + sorts + light
    scratch += members * picture // 100  # the meshes of the frames, and what else is shared
    if mode != "none" and not options.follow:
        # The small pictures of the differences and of the template's frames.
        cells = 4 * product // max(1, CELL // grid.step) ** 2
        scratch += n_channels * members * cells if members > 1 else 0
        # The filtered differences, a byte a pixel.
        watched = min(len(sequence.frames), COMET_FRAMES) * cells
        watched += min(len(sequence.frames), PLACE_FRAMES) * product
        scratch += watched * options.changes
    if options.injection and options.changes and mode != "none" and not options.follow:
        scratch += planted_bytes(product, n_channels, grid.step) * len(sequence.frames)
    latest = Pool.most_waiting(workers) * (CHUNK if mode in ("running", "rolling") else 1)
    scratch += kept_bytes(len(sequence.frames), movie_layout(grid, options), latest)
    scratch += difference_bytes(len(sequence.frames), grid.shape, options)
    return Need(int(main + template + sorts + peak), int(scratch))


def _machine_memory() -> int:
    """Physical memory of the machine, bytes; 0 where it cannot be told."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
