from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from eventlog.errors import EvlogError
from eventlog.lake.publish import publish
from eventlog.lake.verify import verify
from tests.lake import s3
from tests.lake.publishers import publish_at_once
from tests.lake.support import make_runs

NOW = timedelta(0)


@pytest.fixture(scope="module")
def server() -> Iterator[s3.Server]:
    """Yield an S3 server."""
    with s3.serving() as server:
        yield server


@pytest.fixture
def options(server: s3.Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the options of a store there; credentials are in the environment, as a user would have them."""
    for name, value in s3.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return {"AWS_ENDPOINT_URL": server.endpoint}


def test_s3_holds_what_the_logs_hold(tmp_path: Path, server: s3.Server, options: dict[str, str]) -> None:
    """A lake on S3 is filled, grows, is compacted and is proved like one in a directory."""
    url = f"s3://{server.new_bucket()}/some where/lake"
    make_runs(tmp_path, 2)
    publish(tmp_path, url, options=options, keep=NOW)
    make_runs(tmp_path, 1, first=2, project="ü b")

    done = publish(tmp_path, url, options=options, keep=NOW)
    found = verify(tmp_path, url, options=options)

    assert done.rows["metrics"] == 40
    assert found.differences == []
    assert found.useless == []
    assert found.rows["metrics"] == 120


def test_several_hosts_publish_to_s3_at_once(
    tmp_path: Path, server: s3.Server, options: dict[str, str]
) -> None:
    """Of commits that overlap the store takes one; the others look again, and no row is there twice."""
    url = f"s3://{server.new_bucket()}/lake"
    roots = [tmp_path / "shared", tmp_path / "own"]
    make_runs(roots[0], 3)
    make_runs(roots[1], 3, first=3)

    codes = publish_at_once([roots[0], roots[0], roots[1]], url, options, times=2)

    assert codes == [0, 0, 0]
    for root in roots:
        assert verify(root, url, options=options).differences == []


@pytest.mark.parametrize(
    ("url", "changed", "told"),
    [
        ("s3://no-such-bucket/lake", {}, "bucket"),
        (
            "s3://some-bucket/lake",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "max_retries": "0"},
            "Nobody answers",
        ),
        ("s3://some-bucket/lake", {"AWS_NO_SUCH_OPTION": "x"}, "option"),
        ("nowhere://some-bucket/lake", {}, "URL such as"),
    ],
)
def test_a_store_that_cannot_be_used_is_told(
    tmp_path: Path, options: dict[str, str], url: str, changed: dict[str, str], told: str
) -> None:
    """Whoever mistypes a bucket or an address reads what is wrong and what to do, in a line or two."""
    make_runs(tmp_path, 1)

    with pytest.raises(EvlogError, match=told) as caught:
        publish(tmp_path, url, options=options | changed)

    assert len(str(caught.value)) < 500
    assert url in str(caught.value)
