"""A program of its own: ask the package `astrometry` where a list of stars lies, within a process that can be ended.

Called as ``python -P solve_child.py JOB.json``; imports nothing of the house, so that it starts quickly. The job
names the file that the answer goes to; no answer means that the field was not solved. Index files are only read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(job_file: str) -> None:
    """Solve the job and write the answer: the cards of the WCS, the index's stars in the field, and its file."""
    import astrometry

    job: dict[str, Any] = json.loads(Path(job_file).read_text(encoding="utf-8"))
    size = astrometry.SizeHint(*job["arcsec_pix"]) if job["arcsec_pix"] else None
    place = astrometry.PositionHint(*job["position"]) if job["position"] else None
    # The first match beyond doubt is the answer: it would go on to look for others.
    parameters = astrometry.SolutionParameters(
        sip_order=2, logodds_callback=lambda odds: astrometry.Action.STOP
    )
    with astrometry.Solver([Path(name) for name in job["index_files"]]) as solver:
        solution = solver.solve(job["stars"], size, place, parameters)
    if solution.has_match():
        match = solution.best_match()
        answer = {
            "wcs": {key: value for key, (value, _) in match.wcs_fields.items()},
            "stars": [[star.ra_deg, star.dec_deg] for star in match.stars],
            "index": match.index_path.name,
        }
        Path(job["answer"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
