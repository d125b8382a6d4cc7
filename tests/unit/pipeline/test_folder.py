"""The output folder: refused when in use, filled when all is done, never left half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from difflapse.errors import OutputError
from difflapse.pipeline.folder import STAGING, check_free, default_out, publish, staging


def finished(
    out: Path, products: tuple[str, ...] = ("frames.ecsv", "aligned/a.fits", "timelapse.mp4")
) -> Path:
    """A folder as a run leaves it."""
    for name in products:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("old")
    (out / "run.toml").write_text(tomli_w.dumps({"provenance": {"products": list(products)}}))
    return out


def listing(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def stage(staged: Path, *names: str) -> list[str]:
    for name in names:
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_text("new")
    return list(names)


@pytest.mark.parametrize(
    "inputs, name",
    [
        (["NIGHT"], "NIGHT-difflapse"),
        (["a/NIGHT/"], "NIGHT-difflapse"),
        (["NIGHT/*.fits.fz"], "NIGHT-difflapse"),
        (["NIGHT/a.fits", "NIGHT/b.fits"], "NIGHT-difflapse"),
        (["@lists/night.txt"], "night-difflapse"),
        (["https://host/data/m31.fits.fz?token=1"], "m31-difflapse"),
        (["NIGHT/one.FITS"], "one-difflapse"),
    ],
)
def test_the_default_is_named_after_the_input(inputs: list[str], name: str) -> None:
    assert default_out(inputs) == Path(name)


def test_the_current_folder_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_out(["."]) == Path(f"{tmp_path.name}-difflapse")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_new_or_empty_folder_is_free(tmp_path: Path, overwrite: bool) -> None:
    check_free(tmp_path / "new", overwrite)
    check_free(tmp_path, overwrite)
    (tmp_path / f"{STAGING}1-abc").mkdir()
    check_free(tmp_path, overwrite)
    assert not (tmp_path / "new").exists()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    finished(tmp_path)
    with pytest.raises(OutputError, match="not empty") as caught:
        check_free(tmp_path, overwrite=False)
    assert "--overwrite" in caught.value.hint
    check_free(tmp_path, overwrite=True)


def test_a_folder_that_holds_no_run_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(OutputError, match="no run"):
        check_free(tmp_path, overwrite=True)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="is a file"):
        check_free(tmp_path / "out", overwrite=True)


def test_a_users_file_under_a_products_name_is_not_overwritten(tmp_path: Path) -> None:
    """An earlier run without a template; a template.fits that somebody put beside it."""
    finished(tmp_path)
    (tmp_path / "template.fits").write_text("mine")
    with pytest.raises(OutputError, match=r"template\.fits"):
        check_free(tmp_path, overwrite=True)


def test_a_damaged_run_toml_is_said_before_the_run(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "run.toml").write_text("= not toml")
    with pytest.raises(OutputError, match=r"run\.toml"):
        check_free(tmp_path, overwrite=True)


def test_products_come_into_being_at_once_and_staging_goes(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with staging(out) as staged:
        assert staged.parent == out
        products = stage(staged, "frames.ecsv", "aligned/a.fits", "run.toml")
        stage(staged, ".scratch/big.npy")
        assert listing(out) == {f"{staged.name}/{n}" for n in [*products, ".scratch/big.npy"]}
        publish(staged, out, products, overwrite=False)
    assert listing(out) == {"frames.ecsv", "aligned/a.fits", "run.toml"}
    assert [p.name for p in out.iterdir() if p.is_dir()] == ["aligned"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupt_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    out = tmp_path / "out"
    with pytest.raises(error), staging(out) as staged:
        stage(staged, "frames.ecsv")
        raise error
    assert not out.exists()


def test_an_interrupt_leaves_an_earlier_run_as_it_was(tmp_path: Path) -> None:
    out = finished(tmp_path / "out")
    before = listing(out)
    with pytest.raises(KeyboardInterrupt), staging(out) as staged:
        stage(staged, "frames.ecsv")
        raise KeyboardInterrupt
    assert listing(out) == before
    assert (out / "frames.ecsv").read_text() == "old"


def test_overwrite_removes_what_the_old_run_lists_and_nothing_else(tmp_path: Path) -> None:
    out = finished(
        tmp_path / "out", ("frames.ecsv", "aligned/a.fits", "aligned/b.fits", "differences/a.fits")
    )
    (out / "notes.txt").write_text("mine")
    (out / "aligned" / "best.png").write_text("mine")
    (out / "empty of mine").mkdir()
    with staging(out) as staged:
        publish(staged, out, stage(staged, "frames.ecsv", "differences/z.fits", "run.toml"), overwrite=True)
    assert listing(out) == {"frames.ecsv", "run.toml", "differences/z.fits", "aligned/best.png", "notes.txt"}
    assert (out / "frames.ecsv").read_text() == "new"
    assert (out / "empty of mine").is_dir()


def test_folders_that_held_only_products_go_with_them(tmp_path: Path) -> None:
    out = finished(tmp_path / "out", ("frames.ecsv", "one/aligned/a.fits"))
    with staging(out) as staged:
        publish(staged, out, stage(staged, "frames.ecsv", "run.toml"), overwrite=True)
    assert not (out / "one").exists()


def test_a_run_toml_cannot_reach_outside_of_its_folder(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    out = finished(tmp_path / "out", ("frames.ecsv",))
    (out / "run.toml").write_text(
        tomli_w.dumps({"provenance": {"products": ["../precious.txt", str(precious), ".", "frames.ecsv"]}})
    )
    with staging(out) as staged:
        publish(staged, out, stage(staged, "frames.ecsv", "run.toml"), overwrite=True)
    assert precious.read_text() == "mine"
    assert listing(out) == {"frames.ecsv", "run.toml"}


def test_staging_that_a_dead_run_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead = out / f"{STAGING}{gone.stdout.decode().strip()}-x"
    alive = out / f"{STAGING}{os.getppid()}-y"
    for folder in (dead, alive):
        folder.mkdir(parents=True)
        (folder / "big.npy").write_text("0")
    with staging(out):
        assert not dead.exists()
        assert alive.exists()
    assert alive.exists()


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"), staging(tmp_path / "file" / "out"):
        pass


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    import errno

    with pytest.raises(OutputError, match="full"), staging(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not (tmp_path / "out").exists()
