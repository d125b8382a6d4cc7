"""Known things beside tables of a run; nothing here asks a network."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from difflapse.errors import InputError, MissingDependencyError
from difflapse.io import catalogue
from difflapse.io.catalogue import Known
from difflapse.pipeline import crossmatch
from difflapse.pipeline.config import RunOptions
from difflapse.pipeline.field import Field


def known(title: str = "mine", **columns: object) -> Known:
    n = len(columns["name"])  # type: ignore[arg-type]
    given = {
        "kind": np.full(n, "EA"),
        "mjd": np.full(n, np.nan),
        "rate_ra": np.zeros(n),
        "rate_dec": np.zeros(n),
    }
    given |= {k: np.asarray(v) for k, v in columns.items()}
    return Known(title, **given)  # type: ignore[arg-type]


def test_the_nearest_within_reach_across_the_meridian_of_ra_nought():
    stars = known(name=["a", "b"], ra_deg=[359.9995, 10.0], dec_deg=[20.0, 20.0])
    index, apart = crossmatch.nearest(
        np.array([0.0005, 10.1, np.nan]), np.array([20.0, 20.0, 1.0]), stars, 10.0
    )
    assert index.tolist() == [0, -1, -1]
    assert apart[0] == pytest.approx(3.6 * np.cos(np.radians(20)), rel=1e-3)


def test_rows_are_named_and_what_moves_is_where_it_is_then(tmp_path):
    table = Table(
        {
            "ra_deg": MaskedColumn([100.0, 100.5, 0.0], mask=[False, False, True]),
            "dec_deg": MaskedColumn([30.0, 30.0, 0.0], mask=[False, False, True]),
            "first_frame": [0, 4, 2],
        }
    )
    path = tmp_path / "changes.ecsv"
    table.write(path, format="ascii.ecsv")
    frames = tuple(SimpleNamespace(mid_mjd=58354.0 + 0.1 * k) for k in range(5))
    star = known(name=["star"], ra_deg=[100.0003], dec_deg=[30.0])
    # Half a degree away at the first frame, there at frame 4.
    mover = known(
        "sky", name=["mover"] * 2, ra_deg=[100.0, 100.5], dec_deg=[30.0, 30.0], mjd=[58354.0, 58354.4]
    )
    crossmatch._name_rows(SimpleNamespace(frames=frames), path, [star, mover], 5.0, True)
    made = Table.read(path)
    # The mover began where the star is; it is nearer.
    assert made["known"].filled("").tolist() == ["mover", "mover", ""]
    assert made["known_catalogue"].tolist()[:2] == ["sky", "sky"]
    assert made["known_separation_arcsec"].mask.tolist() == [False, False, True]
    crossmatch._name_rows(SimpleNamespace(frames=frames), path, [star], 5.0, True)
    made = Table.read(path)
    assert made["known"].tolist()[0] == "star"
    assert made["known_separation_arcsec"][0] == pytest.approx(
        3600 * 0.0003 * np.cos(np.radians(30)), abs=0.01
    )


def test_what_is_not_there_is_told_before_anything_is_read(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="there is no catalogue"):
        crossmatch.check_crossmatch(RunOptions(crossmatch=(str(tmp_path / "none.vot"),)))
    (tmp_path / "list.txt").write_text("a b c")
    with pytest.raises(InputError, match="by its name"):
        crossmatch.check_crossmatch(RunOptions(crossmatch=(str(tmp_path / "list.txt"),)))

    def missing() -> None:
        raise MissingDependencyError("no astroquery", "pip install it")

    monkeypatch.setattr(catalogue, "check_online", missing)
    with pytest.raises(MissingDependencyError) as caught:
        crossmatch.check_crossmatch(RunOptions(crossmatch=("vsx",)))
    assert caught.value.exit_code == 4


def test_offline_it_says_so_and_goes_on(monkeypatch):
    said: list[str] = []

    def silent(*where: float) -> Known:
        raise InputError("VSX does not answer: no route to host", "is this machine online?")

    monkeypatch.setattr(catalogue, "fetch_vsx", silent)
    monkeypatch.setattr(crossmatch, "field_of", lambda night: Field(243.0, 33.0, 8.0, 6.0, 5.0))
    desk = SimpleNamespace(night=SimpleNamespace(), progress=SimpleNamespace(note=said.append))
    assert crossmatch._catalogue(desk, "vsx") is None
    assert said == ["VSX does not answer: no route to host; the run goes on without it"]
