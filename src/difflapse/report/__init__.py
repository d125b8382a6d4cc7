"""The page a person opens in the morning: what it holds, how it is packed, and how it is written."""

from difflapse.report.curves import Curves, pack_curves
from difflapse.report.index import IndexEntry, index_page
from difflapse.report.page import write_page, write_single_page
from difflapse.report.sky import sky_record

__all__ = [
    "Curves",
    "IndexEntry",
    "index_page",
    "pack_curves",
    "sky_record",
    "write_page",
    "write_single_page",
]
