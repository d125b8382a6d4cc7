"""Point it at a night of astronomical frames and watch what changed."""

from __future__ import annotations

from difflapse._version import __version__

__all__ = ["__version__"]
