"""Files in and out: what the inputs are, their pixels, and the products."""

from __future__ import annotations

from difflapse.io.discover import discover
from difflapse.io.fits import read_facts, read_frame

__all__ = ["discover", "read_facts", "read_frame"]
