"""Names that MLflow takes, one for each key, and back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils import uri as mlflow_uri
from mlflow.utils import validation

from sinks._mlflow.names import (
    MAX_KEY,
    cut,
    file_name,
    key_name,
    model_name,
    tag_name,
    unescape,
    value_text,
    without_secrets,
)

# MLflow's own checks, which have no types.
check_metric_name: Callable[[str], object] = validation._validate_metric_name
check_tag_name: Callable[[str], object] = validation._validate_tag_name
safe_path: Callable[[str], str] = mlflow_uri.validate_path_is_safe

KEYS = st.text(alphabet=st.sampled_from("ab/._x2f5h:-\n%é日 ={}\\?#;\0"), max_size=9) | st.text(max_size=20)


@given(key=KEYS)
def test_key_name_is_taken_by_mlflow_and_leads_back(key: str) -> None:
    """MLflow's own check takes every name, and the key can be had back from it."""
    name = key_name(key)

    check_metric_name(name)
    assert unescape(name) == key


@given(one=KEYS, other=KEYS)
def test_key_name_is_another_for_each_key(one: str, other: str) -> None:
    """No two keys meet in one name, also if one looks like the other escaped."""
    assert (key_name(one) == key_name(other)) == (one == other)


@given(key=st.text(min_size=200, max_size=600))
def test_key_name_is_short_enough(key: str) -> None:
    """A long key ends in a hash of it; MLflow takes at most 250 characters."""
    name = key_name(key)

    check_metric_name(name)
    assert len(name) <= MAX_KEY
    assert name != key_name(key + "!")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("train/loss", "train/loss"),
        ("a b.c-d_e:f", "a b.c-d_e:f"),
        ("größe/日本", "größe/日本"),
        ("a=b", "a_x3d_b"),
        ("a_x3d_b", "a_x5f_x3d_b"),
        ("a//b", "a_x2f__x2f_b"),
        ("../x", "_x2e_./x"),
        (".", "_x2e_"),
        ("/abs", "_x2f_abs"),
        ("a/", "a_x2f_"),
        ("", "_x_"),
        ("loss\n", "loss_xa_"),
    ],
)
def test_key_name_changes_only_what_mlflow_refuses(key: str, name: str) -> None:
    """Usual names stay as they are; the rest has its code in it."""
    assert key_name(key) == name


def test_tag_name_keeps_users_away_from_our_tags() -> None:
    """A user's tag that begins as ours do is escaped, so that it cannot stand for another run."""
    name = tag_name("evlog.run_id")

    check_tag_name(name)
    assert not name.startswith("evlog.")
    assert unescape(name) == "evlog.run_id"


@given(key=KEYS)
def test_file_name_is_kept_by_the_artifact_server(key: str) -> None:
    """The server neither refuses nor changes a path, also after decoding it again and again."""
    path = f"1/0123/artifacts/{file_name(key)}"

    assert safe_path(path) == path
    assert unescape(file_name(key)) == key


def test_model_name_is_one_component() -> None:
    """The registry takes no slash and no colon."""
    assert model_name("team/net:v1") == "team_x2f_net_x3a_v1"


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (True, "True"), (None, "None"), (0.1, "0.1"), ([1, "é"], '[1, "é"]'), ("a\0b", "a\\u0000b")],
)
def test_value_text_is_what_mlflow_users_expect(value: object, text: str) -> None:
    """Texts are bare, Python's constants are Python's, lists are JSON."""
    assert value_text(value) == text


def test_cut_says_what_is_missing() -> None:
    """What is too long keeps its begin and says how long it was, the same every time."""
    text = cut("x" * 7000, 6000, "; whole in params.json")

    assert len(text) == 6000
    assert text.endswith("; whole in params.json]")
    assert "7000 characters" in text
    assert cut("x" * 7001, 6000, "")[-60:] != text[-60:]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@host:5000/mlflow?token=x", "https://host:5000/mlflow"),
        ("postgresql://u:p@db/mlflow", "postgresql://db/mlflow"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_without_secrets_keeps_the_place(uri: str, shown: str) -> None:
    """A destination names where events go, and nothing that lets anybody in."""
    assert without_secrets(uri) == shown
