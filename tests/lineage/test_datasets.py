"""What is logged of data that a run reads."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog import EvlogWarning, Tracker, connect
from eventlog.errors import BadValueError
from eventlog.events import Artifact, Console, Dataset
from eventlog.replay import view
from eventlog.storage.artifacts import describe
from tests.lineage.tables import logged_as, sha_of, table, tracker
from tests.tracker.support import logged, only_run, run_job

torch: Any = pytest.importorskip("torch", reason="tried where torch is installed")

__all__ = ["tracker"]


# --- tables ---------------------------------------------------------------------------------------------


def test_a_frame_is_logged_with_rows_columns_hash_and_split(tracker: Tracker) -> None:
    """The event says all that is known, also to SQL."""
    frame = pd.DataFrame(table())
    event = logged_as(
        tracker, "reviews", "2024-05", frame=frame, split="train", strategy="by author", split_seed=7
    )

    tracker.flush()
    (stored,) = logged(tracker.run_dir, Dataset)
    assert (stored.name, stored.version, stored.split, stored.rows) == ("reviews", "2024-05", "train", 3)
    assert stored.sha256 == event.sha256 == sha_of(frame)
    assert stored.data["columns"][:2] == [  # type: ignore[index]
        {"name": "id", "dtype": "int64"},
        {"name": "score", "dtype": "float64"},
    ]
    assert stored.data["splits"] == {"train": 3}
    assert (stored.data["strategy"], stored.data["split_seed"]) == ("by author", 7)
    with connect(tracker.root) as runs:
        assert runs.sql("SELECT name, rows, sha256 FROM datasets").fetchall() == [
            ("reviews", 3, event.sha256)
        ]


# --- arrays ----------------------------------------------------------------------------------------------


def test_an_array_is_logged_with_shape_type_and_hash(tracker: Tracker) -> None:
    """Rows are its first axis; the hash is that of the recipe."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    event = logged_as(tracker, "x", array=values)

    recipe = hashlib.sha256(b"evlog-array-1\nfloat32\n2,3\n" + values.tobytes()).hexdigest()
    assert (event.sha256, event.rows) == (recipe, 2)
    assert (event.data["shape"], event.data["dtype"]) == ([2, 3], "float32")


@pytest.mark.parametrize(
    "same",
    [
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(">f4"),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: torch.from_numpy(x.copy()).requires_grad_(),
        lambda x: torch.from_numpy(x.T.copy()).T,
    ],
    ids=["columns first", "big endian", "strides", "torch", "transposed"],
)
def test_the_same_array_has_the_same_hash(tracker: Tracker, same: Any) -> None:
    """Neither how it lies in memory nor the library counts."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)

    assert logged_as(tracker, "x", array=same(values)).sha256 == logged_as(tracker, "x", array=values).sha256


def test_a_large_array_is_hashed_in_parts(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, also of parts of a single row, give the hash of the whole."""
    values = np.arange(60).reshape(3, 4, 5)
    whole = logged_as(tracker, "x", array=values).sha256
    monkeypatch.setattr("eventlog.lineage.data.hashes.BLOCK_BYTES", 64)

    assert logged_as(tracker, "x", array=values).sha256 == whole


@pytest.mark.parametrize("array", [np.array(3.5), [[1, 2], [3, 4]], torch.ones(2, dtype=torch.bfloat16)])
def test_scalars_lists_and_small_floats_are_arrays(tracker: Tracker, array: object) -> None:
    """Whatever NumPy or torch holds has a hash."""
    assert logged_as(tracker, "x", array=array).sha256 is not None


# --- files -------------------------------------------------------------------------------------------------


def test_a_csv_file_has_rows_columns_and_types(tracker: Tracker, tmp_path: Path) -> None:
    """Newlines in quotes end no row; the last row needs none at its end; the hash is that of the bytes."""
    path = tmp_path / "d.csv"
    path.write_bytes('id,score,text,empty\n1,0.5,"a ""b""\nc",\n2,1e3,ü,'.encode())
    event = logged_as(tracker, "d", path=path)

    assert (event.sha256, event.rows) == (hashlib.sha256(path.read_bytes()).hexdigest(), 2)
    assert event.sha256 == describe(path).sha256
    assert event.data["columns"] == [
        {"name": "id", "dtype": "int"},
        {"name": "score", "dtype": "float"},
        {"name": "text", "dtype": "text"},
        {"name": "empty", "dtype": "text"},
    ]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=4), min_size=2, max_size=2), max_size=6
    )
)
def test_rows_of_csv_are_those_that_python_reads(tmp_path: Path, rows: list[list[str]]) -> None:
    """Quotes and newlines in cells change nothing."""
    import csv

    from eventlog.lineage.data import files as datasets_files

    path = tmp_path / "d.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    datasets_files.CHUNK_BYTES = 7
    try:
        found = datasets_files.describe_file(path)
    finally:
        datasets_files.CHUNK_BYTES = 1 << 20

    assert found.rows == len(rows)


def test_files_that_say_their_rows_are_asked(tracker: Tracker, tmp_path: Path) -> None:
    """JSON lines, Parquet and NumPy's files have rows and columns too."""
    (tmp_path / "d.jsonl").write_text('{"q": "a", "n": 1}\n{"q": "b", "n": null}\n')
    pa.parquet.write_table(pa.table(table()), tmp_path / "d.parquet")
    np.save(tmp_path / "d.npy", np.zeros((5, 2), np.float32))
    np.savez(tmp_path / "d.npz", x=np.zeros(3), y=np.zeros((3, 2), int))

    found = {
        kind: logged_as(tracker, kind, path=tmp_path / f"d.{kind}")
        for kind in ("jsonl", "parquet", "npy", "npz")
    }

    assert {kind: event.rows for kind, event in found.items()} == {
        "jsonl": 2,
        "parquet": 3,
        "npy": 5,
        "npz": None,
    }
    assert found["jsonl"].data["columns"] == [{"name": "q", "dtype": "text"}, {"name": "n", "dtype": "int"}]
    assert found["parquet"].data["columns"][1] == {"name": "score", "dtype": "double"}  # type: ignore[index]
    assert found["npz"].data["columns"][1] == {"name": "y", "dtype": "int64", "shape": [3, 2]}  # type: ignore[index]


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl", "d.parquet", "d.npy", "d.npz", "d.bin"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\n\x00", b"[1, 2"])
def test_rubbish_under_a_good_name_has_a_hash(
    tracker: Tracker, tmp_path: Path, name: str, content: bytes
) -> None:
    """What cannot be read as its kind is a file like any other."""
    (tmp_path / name).write_bytes(content)

    assert logged_as(tracker, "d", path=tmp_path / name).sha256 == hashlib.sha256(content).hexdigest()


def test_a_directory_has_the_hash_of_its_tree(tracker: Tracker, tmp_path: Path) -> None:
    """The same as an artifact of it would have, so that it can be checked later."""
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "a").write_text("x")
    (tmp_path / "d" / "b").write_text("yz")
    event = logged_as(tracker, "d", path=tmp_path / "d")

    assert event.sha256 == describe(tmp_path / "d").sha256
    assert (event.data["files"], event.data["size_bytes"]) == (2, 3)


def test_an_address_is_recorded_and_not_read(tracker: Tracker) -> None:
    """Passwords in it are not written down."""
    event = logged_as(tracker, "d", path="https://ada:secret@example.org/d.csv")

    assert (event.path, event.sha256) == ("https://example.org/d.csv", None)


def test_without_a_hash_size_and_time_are_recorded(tracker: Tracker, tmp_path: Path) -> None:
    """Data that are too large to be read once more can still be named."""
    path = tmp_path / "d.bin"
    path.write_bytes(b"x" * 100)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    event = logged_as(tracker, "d", path=path, hash=False)

    assert event.sha256 is None
    assert event.data == {"size_bytes": 100, "modified_at": "2023-11-14T22:13:20+00:00"}


def test_a_file_that_is_not_there_costs_a_warning(tracker: Tracker, tmp_path: Path) -> None:
    """Its path is logged all the same; a strict tracker raises."""
    with pytest.warns(EvlogWarning, match="no file or directory"):
        event = logged_as(tracker, "gone", path=tmp_path / "gone.csv")
    tracker.strict = True
    with (
        Tracker((), output_dir=tmp_path / "runs", strict=True, system=False) as strict,
        pytest.raises(BadValueError),
    ):
        strict.log_dataset("gone", path=tmp_path / "gone.csv")

    assert event.path == str(tmp_path / "gone.csv")


def test_a_frame_of_a_file_keeps_the_files_hash(tracker: Tracker, tmp_path: Path) -> None:
    """Given both, what can be checked later is the file; the table says rows and columns."""
    path = tmp_path / "d.bin"
    path.write_bytes(b"binary")
    frame = pd.DataFrame(table())
    event = logged_as(tracker, "d", path=path, frame=frame)

    assert (event.sha256, event.rows) == (hashlib.sha256(b"binary").hexdigest(), 3)
    assert event.data["content_sha256"] == sha_of(frame)


def test_a_relative_path_is_made_whole(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the log stands elsewhere."""
    monkeypatch.chdir(tmp_path)
    Path("d.csv").write_text("a\n1\n")

    assert logged_as(tracker, "d", path="d.csv").path == str(tmp_path / "d.csv")


# --- indices ------------------------------------------------------------------------------------------------


def stored_at(tracker: Tracker, event: Dataset) -> Path:
    """Return the file of the indices that *event* names."""
    assert tracker.run_dir is not None
    assert event.data["indices"] in {
        f.path.removeprefix("artifacts/") for f in logged(tracker.run_dir, Artifact)
    }
    return tracker.run_dir / "artifacts" / str(event.data["indices"])


@pytest.mark.parametrize(
    "indices",
    [
        [4, 0, 2],
        (4, 0, 2),
        np.array([4, 0, 2], np.int32),
        torch.tensor([4, 0, 2]),
        pd.Series([4, 0, 2]),
        iter([4, 0, 2]),
    ],
    ids=["list", "tuple", "numpy", "torch", "pandas", "iterator"],
)
def test_exact_indices_are_stored(tracker: Tracker, indices: object) -> None:
    """In the order in which they were given, under a name that says whose they are."""
    event = logged_as(tracker, "reviews", array=np.zeros(5), split="val", indices=indices)

    assert event.data["indices"] == "data/reviews-val-indices.npy"
    assert np.load(stored_at(tracker, event)).tolist() == [4, 0, 2]
    assert (event.rows, event.data["splits"]) == (5, {"val": 3})


def test_a_mask_is_stored_as_the_rows_that_it_takes(tracker: Tracker) -> None:
    """One bool per row says the same as their numbers."""
    event = logged_as(tracker, "d", indices=np.array([True, False, True]), split="train")

    assert np.load(stored_at(tracker, event)).tolist() == [0, 2]


def test_indices_of_several_splits_lie_in_one_file(tracker: Tracker) -> None:
    """Each under the name of its split."""
    event = logged_as(tracker, "d", indices={"train": [0, 1, 3], "test": [2]})
    stored = np.load(stored_at(tracker, event))

    assert {name: stored[name].tolist() for name in stored.files} == {"train": [0, 1, 3], "test": [2]}
    assert event.data["splits"] == {"train": 3, "test": 1}


def test_indices_logged_twice_are_both_kept(tracker: Tracker) -> None:
    """Each event names its own version of the file."""
    first = logged_as(tracker, "d", indices=[1], split="a")
    second = logged_as(tracker, "d", indices=[2], split="a")

    assert [np.load(stored_at(tracker, event)).tolist() for event in (first, second)] == [[1], [2]]


@pytest.mark.parametrize("indices", [[0.5], ["a"], 3, {"train": [[1, 2]]}, {"train": None}])
def test_what_are_no_indices_costs_a_warning(tracker: Tracker, indices: object) -> None:
    """The data set is logged without them."""
    with pytest.warns(EvlogWarning, match="indices"):
        event = logged_as(tracker, "d", indices=indices)

    assert "indices" not in event.data


def test_names_that_are_no_file_names_are_made_good(tracker: Tracker) -> None:
    """The name of data may hold anything."""
    event = logged_as(tracker, "../org/data: v1", indices=[1], split="a/b")

    assert stored_at(tracker, event).is_file()
    assert event.name == "../org/data: v1"


def test_without_numpy_indices_are_json(tmp_path: Path) -> None:
    """Files are hashed, and row numbers stored, with what Python has."""
    (tmp_path / "numpy.py").write_text("raise ImportError('not here')\n")
    (tmp_path / "d.csv").write_text("a\n1\n")
    _, out, err = run_job(
        """
        from eventlog import Tracker
        with Tracker((), output_dir="runs", lineage=False, system=False) as tracker:
            one = tracker.log_dataset("d", path="d.csv", split="train", indices=[2, 1])
            two = tracker.log_dataset("d", indices={"a": [1], "b": [True, False]})
            for event in (one, two):
                file = tracker.run_dir / "artifacts" / event.data["indices"]
                print(event.data["splits"], file.read_text())
        """,
        tmp_path,
        PYTHONPATH=str(tmp_path),
    )

    assert (out, err) == ("{'train': 2} [2, 1]\n{'a': 1, 'b': 1} {\"a\": [1], \"b\": [0]}\n", "")


def test_nothing_is_read_when_logging_is_disabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disabled tracker returns None."""
    monkeypatch.setenv("EVLOG_DISABLED", "1")

    assert Tracker((), output_dir=tmp_path).log_dataset("d", path="/nowhere") is None


def test_the_page_on_data_runs_as_it_stands(tmp_path: Path) -> None:
    """Its script prints what was logged, and the run has seed, split and console."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "data-and-seeds.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    _, out, err = run_job(code, tmp_path, EVLOG_LINEAGE="0")

    run = only_run(tmp_path / "experiments")
    assert (out.split(" {")[0], err) == ("10", "")
    assert view(run).params == {"seed": 42}
    assert [event.text for event in logged(run, Console)] == [out.strip()]
