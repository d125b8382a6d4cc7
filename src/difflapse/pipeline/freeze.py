"""Imported last by the fork server: what it has loaded stays, so that the garbage collector need not look through it in
the workers, whose own copy it would become.
"""

from __future__ import annotations

import gc

gc.freeze()
