"""``python -m difflapse``: the same program as ``difflapse``."""

from __future__ import annotations

from difflapse.cli import main

if __name__ == "__main__":
    main()
