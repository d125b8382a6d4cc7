"""What each resampling kernel costs, in processor time of one thread beside the cubic, and how exact it is.

``python benchmarks/resample.py``. Frames of 5208x3476 pixels for the cost; stars of a known scene for the rest.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from difflapse.align.kernels import KERNELS
from difflapse.align.warp import Unsplit, warp
from difflapse.model import ProductGrid, Transform
from difflapse.model.transform import powers
from difflapse.mosaic import sites, split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="5208x3476", help="pixels of a frame, width x height")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    width, height = (int(n) for n in args.size.split("x"))
    for pattern in ("GBRG", ""):
        cost((height, width), pattern, args.repeats)
    for fwhm, pattern in ((2.5, ""), (4.4, "GBRG"), (2.2, "GBRG")):
        exactness(fwhm, pattern)


def cost(shape: tuple[int, int], pattern: str, repeats: int) -> None:
    """The kernels take turns, so that what else the machine does meets all alike; the least of each counts."""
    rng = np.random.default_rng(0)
    frame = rng.normal(3000, 30, shape).astype(np.uint16)
    grid = ProductGrid.whole(shape, pattern)
    planes = Unsplit(frame, pattern, 0.0, split(frame, pattern))
    out = np.empty((3 if pattern else 1, *grid.shape), np.float32)
    for name, transform in transforms(shape).items():
        spent: dict[str, float] = dict.fromkeys(KERNELS, np.inf)
        for turn in range(1 + (repeats if name == "a night's drift" else 2)):
            for kernel in KERNELS:
                start = time.process_time()
                warp(planes, sites(pattern), transform, grid, None, kernel, out)
                if turn:
                    spent[kernel] = min(spent[kernel], time.process_time() - start)
        for kernel in KERNELS:
            ratio = spent[kernel] / spent["cubic"]
            print(f"{pattern or 'mono':<5}{name:<18}{kernel:<9}{1e3 * spent[kernel]:8.0f} ms {ratio:6.2f}")


def transforms(shape: tuple[int, int]) -> dict[str, Transform]:
    """A lens and a drift; 30 degrees; half the scale."""
    rng = np.random.default_rng(1)
    centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    lens = np.zeros((2, len(powers(3))))
    lens[:, 3:] = rng.uniform(-0.5, 0.5, (2, lens.shape[1] - 3))
    drift = turned(0.05, 1.0, centre, (12.37, -30.61)).matrix
    return {
        "a night's drift": Transform("polynomial", drift, lens, tuple(centre), 0.6 * max(shape)),
        "30 degrees": turned(30, 1.0, centre, (3.3, -1.7)),
        "scale 0.5": turned(0, 0.5, centre, (3.3, -1.7)),
    }


def turned(angle: float, scale: float, centre: np.ndarray, shift: tuple[float, float]) -> Transform:
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    m = np.array([[c, -s], [s, c]])
    return Transform.from_matrix(np.column_stack([m, centre - m @ centre + shift]))


def exactness(fwhm: float, pattern: str, shape: tuple[int, int] = (601, 841)) -> None:
    """Warped stars less those rendered where the transform says: rms and worst, of the brightest peak."""
    rng = np.random.default_rng(5)
    ny, nx = shape
    x0, y0 = (g.ravel() for g in np.meshgrid(np.arange(20, nx - 15, 26.0), np.arange(20, ny - 15, 26.0)))
    stars = np.stack([x0 + rng.uniform(-1, 1, x0.size), y0 + rng.uniform(-1, 1, x0.size)], axis=-1)
    sigma = fwhm / 2.3548

    def scene(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        u, v = np.clip((x - 20) / 26, 0, nx // 26), np.clip((y - 20) / 26, 0, ny // 26)
        columns = len(np.arange(20, nx - 15, 26.0))
        rows = len(np.arange(20, ny - 15, 26.0))
        k = np.minimum(np.round(v), rows - 1) * columns + np.minimum(np.round(u), columns - 1)
        star = stars[k.astype(int)]
        return np.asarray(np.exp(-((x - star[..., 0]) ** 2 + (y - star[..., 1]) ** 2) / (2 * sigma**2)))

    j, i = np.indices(shape).astype(float)
    planes = split(scene(i, j), pattern)
    grid = ProductGrid.whole(shape, pattern)
    j, i = np.indices(grid.shape).astype(float)
    centre = np.array([(nx - 1) / 2, (ny - 1) / 2])
    for name, transform in {
        "shift": turned(0, 1, centre, (0.37, -0.62)),
        "30 degrees": turned(30, 1, centre, (3.3, -1.7)),
        "scale 1.4": turned(0, 1.4, centre, (3.3, -1.7)),
        "scale 0.7": turned(0, 0.7, centre, (3.3, -1.7)),
    }.items():
        truth = scene(*transform.inverse(*grid.to_native(i, j)))
        for kernel in KERNELS:
            result = warp(planes, sites(pattern), transform, grid, None, kernel)
            error = (result.data[-1] / result.level - truth)[result.mask == 0]
            print(
                f"{pattern or 'mono':<5}FWHM {fwhm:<4} {name:<11}{kernel:<9} rms {100 * error.std():6.3f} %, "
                f"worst {100 * np.abs(error).max():6.2f} %"
            )


if __name__ == "__main__":
    main()
