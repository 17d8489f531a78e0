"""Items from files: forms, damage with its line, and which of them are taken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.evaluation.benchmarks.gsm8k import GSM8K
from eventlog.evaluation.benchmarks.squad import SQuAD
from eventlog.evaluation.data import BadDatasetError, DatasetNotFoundError, read_rows, sample

ROWS = [{"question": "é?", "answer": "1"}, {"question": "?", "answer": "2"}]


def test_rows_are_the_same_from_all_forms_of_files(tmp_path: Path) -> None:
    """JSONL, JSON, CSV and Parquet give the same rows; a byte-order mark and empty lines do no harm."""
    (tmp_path / "a.jsonl").write_text("\ufeff" + "\n\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "a.csv").write_text("\ufeffquestion,answer\né?,1\n?,2\n", encoding="utf-8")
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT question, answer::VARCHAR AS answer FROM read_json('{tmp_path}/a.json'))"
            f" TO '{tmp_path}/a.[b].parquet' (FORMAT parquet)"
        )

    for name in ("a.jsonl", "a.json", "a.csv", "a.[b].parquet"):
        assert read_rows(tmp_path / name) == ROWS, name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n\n{"a": ', r"a\.jsonl, line 3: it is not JSON"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', r"a\.jsonl, line 2: it is no object but list"),
        ("a.jsonl", b'{"a": "\xff"}\n', r"a\.jsonl, line 1: it is not"),
        ("a.json", b'[\n{"a": 1},\n]', r"a\.json, line 3: it is not JSON"),
        ("a.json", b'{"a": 1}', r"a\.json: it is not a list of objects"),
        ("a.json", b"[1]", r"a\.json: row 1 is no object but int"),
        ("a.csv", b"a,b\n1,2\n3\n", r"a\.csv, line 3: it has not 2 fields"),
        ("a.csv", b"a,b\n1,2,3\n", r"a\.csv, line 2: it has not 2 fields"),
        ("a.csv", b"a\n\xff\n", r"a\.csv: it is not UTF-8"),
        ("a.parquet", b"PAR1", r"a\.parquet: it is not Parquet"),
        ("a.txt", b"", r"a\.txt: its name ends in none of \.jsonl"),
    ],
)
def test_damaged_file_is_an_error_with_its_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """The message says which file, which line, and what is wrong there."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BadDatasetError, match=message):
        read_rows(tmp_path / name)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_missing_file_is_an_error(tmp_path: Path, suffix: str) -> None:
    """A file that is not there is named."""
    with pytest.raises(BadDatasetError, match="there is no such file"):
        read_rows(tmp_path / f"gone{suffix}")


@given(count=st.integers(0, 50), wanted=st.integers(0, 60), seed=st.none() | st.integers())
def test_sample_is_a_prefix_of_a_larger_sample(count: int, wanted: int, seed: int | None) -> None:
    """Fewer samples are the first of more, whatever the seed; all together are all rows."""
    rows = [{"place": place} for place in range(count)]

    few, everything = sample(rows, wanted, seed), sample(rows, None, seed)

    assert few == list(everything)[:wanted]
    assert sorted(row["place"] for row in everything) == list(range(count))  # type: ignore[type-var]


def test_sample_with_a_seed_is_the_same_for_ever() -> None:
    """The order is written down here: it must not change with Python or with evlog."""
    rows = [{"place": place} for place in range(8)]

    assert [row["place"] for row in sample(rows, None, 1)] == [7, 4, 6, 5, 2, 3, 0, 1]
    assert sample(rows, None, 2) != sample(rows, None, 1)


def test_data_come_from_a_directory_by_split(tmp_path: Path) -> None:
    """A directory holds a file for each split."""
    (tmp_path / "train.jsonl").write_text('{"question": "?", "answer": "1"}\n')

    assert len(GSM8K(data=tmp_path).load_dataset("train")) == 1
    with pytest.raises(BadDatasetError, match=r"has no test\.jsonl"):
        GSM8K(data=tmp_path).load_dataset("test")


def test_data_come_from_the_directory_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EVLOG_BENCHMARKS names a directory with a directory or a file for each benchmark."""
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_text('{"question": "?", "answer": "1"}\n')
    (tmp_path / "squad.jsonl").write_text('{"question": "?", "answers": ["1"]}\n')
    monkeypatch.setenv("EVLOG_BENCHMARKS", str(tmp_path))

    assert len(GSM8K().load_dataset()) == 1
    assert len(SQuAD(hub=False).load_dataset()) == 1


def test_without_data_and_hub_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hub=False nothing is asked of the network, and the message says how to give data."""
    monkeypatch.delenv("EVLOG_BENCHMARKS", raising=False)

    with pytest.raises(DatasetNotFoundError, match=r"gsm8k has no data.*Give data=FILE"):
        GSM8K(hub=False).load_dataset()


def test_negative_number_of_samples_is_refused() -> None:
    """Less than none cannot be had."""
    with pytest.raises(BadDatasetError, match="num_samples is -1"):
        GSM8K(data="x.jsonl").load_dataset(num_samples=-1)


def test_hub_is_read_through_datasets_without_running_its_code(tmp_path: Path) -> None:
    """A stand-in for the package shows what is asked of it: path, configuration, split, no more."""
    (tmp_path / "datasets.py").write_text(
        "def load_dataset(*arguments, **options):\n"
        "    print(arguments, options)\n"
        "    return [{'question': '?', 'answer': '#### 1'}]\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from eventlog.evaluation.benchmarks.gsm8k import GSM8K\n"
        "from eventlog.evaluation.benchmarks.squad import SQuAD\n"
        "print(len(GSM8K().load_dataset()), len(SQuAD().load_dataset()))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.splitlines() == [
        "('openai/gsm8k', 'main') {'split': 'test'}",
        "('rajpurkar/squad', None) {'split': 'validation'}",
        "1 1",
    ], done.stderr


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("raise ImportError('no')", "pip install 'evlog[datasets]'"),
        (
            "def load_dataset(*a, **k): raise ConnectionError('no network')",
            "could not be loaded (no network)",
        ),
    ],
)
def test_hub_that_cannot_be_had_is_an_error_with_the_way_out(
    tmp_path: Path, module: str, message: str
) -> None:
    """A missing package and a missing network each say what to do."""
    (tmp_path / "datasets.py").write_text(module)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from eventlog.errors import EvlogError\n"
        "from eventlog.evaluation.benchmarks.gsm8k import GSM8K\n"
        "try:\n    GSM8K().load_dataset()\nexcept EvlogError as error:\n    print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert message in done.stdout, done.stderr
