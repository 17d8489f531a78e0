"""Credentials are masked before they reach the log."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import Tracker, TrackingConfig
from eventlog import events as ev
from eventlog.errors import BadShapeError, EvlogWarning
from eventlog.replay import view
from eventlog.tracker import secrets
from eventlog.tracker.redacting import Redactor
from eventlog.tracker.secrets import REDACTED, TOKENS, is_secret
from tests.security.names import HARMLESS, SECRETS

ALNUM = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0"
WHAT = "Zq7vX2secretW9"
"""What must be nowhere in a log."""

# Put together here, so that nobody's scanner takes this page for a leak.
TEXTS = {
    "aws": "AKIA" + "ABCDEFGH12345678",
    "github": "ghp_" + ALNUM[:36],
    "github fine": "github_pat_" + ALNUM,
    "gitlab": "glpat-" + ALNUM[:20],
    "hugging face": "hf_" + ALNUM[:34],
    "openai": "sk-" + "proj-" + ALNUM,
    "openai old": "sk-" + ALNUM + ALNUM[:8],
    "anthropic": "sk-" + "ant-api03-" + ALNUM,
    "slack": "xoxb-" + "123456789012-" + ALNUM[:24],
    "google": "AIza" + ALNUM[:35],
    "google oauth": "ya29." + ALNUM,
    "stripe": "sk_live_" + ALNUM[:24],
    "google client": "GOCSPX-" + ALNUM[:28],
    "groq": "gsk_" + ALNUM + ALNUM[:12],
    "replicate": "r8_" + ALNUM[:37],
    "nvidia": "nvapi-" + ALNUM + ALNUM[:24],
    "vault": "hvs." + ALNUM,
    "sendgrid": "SG." + ALNUM[:22] + "." + ALNUM + ALNUM[:3],
    "telegram": "https://api.telegram.org/bot" + "123456789:AA" + ALNUM[:33] + "/send",
    "office webhook": "https://team.webhook.office.com/" + "webhookb2/" + ALNUM,
    "shared access": "SharedAccessSignature=sv=2020&" + "sig=" + ALNUM,
    "npm": "npm_" + ALNUM[:36],
    "pypi": "pypi-AgE" + ALNUM + ALNUM,
    "databricks": "dapi" + "0123456789abcdef" * 2,
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0In0" + "." + ALNUM,
    "pem": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEow" + ALNUM + "\n-----END RSA " + "PRIVATE KEY-----",
    "pem cut off": "-----BEGIN " + "PRIVATE KEY-----\nMIIEow" + ALNUM,
    "bearer": "Authorization: Bearer " + ALNUM,
    "slack webhook": "https://hooks.slack.com/" + "services/T0/B0/" + ALNUM,
    "discord webhook": "https://discord.com/" + "api/webhooks/1/" + ALNUM,
}
PLAIN = [
    "sk-learn-random-forest-classifier",
    "task-specific-embedding-model-name-2024",
    "hf_transfer",
    "bert-base-uncased",
    "meta-llama/Llama-3.1-8B-Instruct",
    "https://medium.com/@user/post?page=2",
    "https://huggingface.co/datasets/squad?split=train",
    "s3://bucket/key/part-0.parquet",
    "git@github.com:team/repo.git",
    "lr=0.1, max_tokens=512; tokenizer='bpe'",
    "token_type_ids: [0, 1], eos_token='</s>'",
    "user_token: <|user|>",
    "mask_token=[MASK], user_token=<s>",
    "what --tokenizer bpe does",
    "the secret: nobody knows it",
    "auth: nobody may",
    "a bearer of bad news",
    "ratio 3:1 at 10:30, key: C major",
    "/data/secrets/of/nature.csv",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
]


def logged(tmp_path: Path) -> bytes:
    """Return all bytes of all files below *tmp_path*."""
    return b"".join(path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file())


@pytest.mark.parametrize("name", SECRETS)
def test_names_of_credentials_are_known(name: str) -> None:
    """What people call their passwords, tokens and keys is found."""
    assert is_secret(name)


@pytest.mark.parametrize("name", HARMLESS)
def test_names_of_hyperparameters_are_left_alone(name: str) -> None:
    """Tokens, keys and passes of models are none of credentials."""
    assert not is_secret(name)


@pytest.mark.parametrize("name", TEXTS)
def test_tokens_of_known_forms_are_masked_wherever_they_stand(name: str) -> None:
    """The form tells, whatever the text is called."""
    text = f"before {TEXTS[name]} after"

    masked = secrets.without_tokens(text)

    assert REDACTED in masked
    assert ALNUM[5:20] not in masked
    assert "ABCDEFGH1234" not in masked
    assert masked.startswith("before ")


def test_every_pattern_of_tokens_has_an_example() -> None:
    """No pattern stands in the list that nothing tries."""
    import re

    unused = [one for one in TOKENS if not any(re.search(one, text) for text in TEXTS.values())]

    assert unused == []


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_texts_stay_as_they_are(text: str) -> None:
    """Nothing is masked for resembling a credential from afar."""
    assert secrets.without_named(text) == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("postgresql://user:Zq7vX2secretW9@db.host:5432/runs", "postgresql://db.host:5432/runs"),
        ("s3://AKEY:Zq7vX2secretW9@bucket/path", "s3://bucket/path"),
        ("https://b.s3.amazonaws.com/x?X-Amz-Signature=Zq7vX2secretW9", "https://b.s3.amazonaws.com/x"),
        (
            "https://a.blob.core.windows.net/c/x?sv=2020&sig=Zq7vX2secretW9",
            "https://a.blob.core.windows.net/c/x",
        ),
        ("Server=db;User=a;Password=Zq7vX2secretW9;", "Server=db;User=a;Password=[redacted];"),
        ("AccountName=a;AccountKey=Zq7vX2secretW9", "AccountName=a;AccountKey=[redacted]"),
        ("Config(lr=0.1, api_key='Zq7vX2secretW9')", "Config(lr=0.1, api_key='[redacted]')"),
        ('{"lr": 1, "password": "Zq7vX2secretW9"}', '{"lr": 1, "password": "[redacted]"}'),
        ("bash -c 'export API_KEY=Zq7vX2secretW9; x'", "bash -c 'export API_KEY=[redacted]; x'"),
        ("bash -c 'x; TOKEN=Zq7vX2secretW9'", "bash -c 'x; TOKEN=[redacted]'"),
        ("Db(password=Zq7vX2secretW9)", "Db(password=[redacted])"),
        ("Server=db; Password = Zq7vX2secretW9 ;x=1", "Server=db; Password = [redacted] ;x=1"),
        ("Pwd=Zq7(vX2'secretW9;a=1", "Pwd=[redacted];a=1"),
        ('{"password": "Zq7\'vX2secretW9"}', '{"password": "[redacted]"}'),
        ('{"password": "Zq7\\"vX2secretW9", "a": 1}', '{"password": "[redacted]", "a": 1}'),
        ('{"a": 1, "password": "Zq7vX2secretW9', '{"a": 1, "password": "[redacted]'),
        (r'"{\"token\": \"Zq7vX2secretW9\"}"', r'"{\"token\": \"[redacted]\"}"'),
        ("lr: 1\napi_key: Zq7vX2secretW9\nn: 2", "lr: 1\napi_key: [redacted]\nn: 2"),
        ("- token: Zq7vX2secretW9", "- token: [redacted]"),
        ("Authorization: Bearer Zq7vX2secretW9", "Authorization: [redacted]"),
        ("Cookie: sid=Zq7vX2; b=secretW9", "Cookie: [redacted]"),
        ("curl -H 'X-Api-Key: Zq7vX2secretW9' u", "curl -H 'X-Api-Key: [redacted]' u"),
        ("t.py --api-key Zq7vX2secretW9 --lr 1", "t.py --api-key [redacted] --lr 1"),
        ("t.py --max-tokens 5 --password --lr 1", "t.py --max-tokens 5 --password --lr 1"),
        ("password=" + "Zq7v" * 5_000 + ";", "password=[redacted];"),
    ],
)
def test_texts_with_credentials_inside_keep_the_rest(text: str, kept: str) -> None:
    """Of an address, an object or a command everything but the credential stays."""
    assert secrets.without_named(text) == kept


@pytest.mark.parametrize(
    ("words", "masked"),
    [
        (["t.py", "--api-key=Zq7vX2secretW9"], ["t.py", "--api-key=[redacted]"]),
        (
            ["t.py", "--password", "Zq7vX2secretW9", "--lr", "1"],
            ["t.py", "--password", REDACTED, "--lr", "1"],
        ),
        (["t.py", "-password", "Zq7vX2secretW9"], ["t.py", "-password", REDACTED]),
        (["t.py", "db.password=Zq7vX2secretW9"], ["t.py", "db.password=[redacted]"]),
        (["t.py", "+wandb.api_key=Zq7vX2secretW9"], ["t.py", "+wandb.api_key=[redacted]"]),
        (["env", "HF_TOKEN=Zq7vX2secretW9", "t"], ["env", "HF_TOKEN=[redacted]", "t"]),
        (["t", "--param", "db_password=Zq7vX2secretW9"], ["t", "--param", "db_password=[redacted]"]),
        (["t.py", "--password", "--lr", "1"], ["t.py", "--password", "--lr", "1"]),
        (
            ["t.py", "--max-tokens", "512", "--tokenizer=bpe"],
            ["t.py", "--max-tokens", "512", "--tokenizer=bpe"],
        ),
        (["t.py", "--api-key", "${KEY}"], ["t.py", "--api-key", "${KEY}"]),
        (["curl", "https://u:Zq7vX2secretW9@h/x"], ["curl", "https://h/x"]),
        (["curl", "-u", "me:Zq7vX2secretW9", "h"], ["curl", "-u", REDACTED, "h"]),
        (["t.py", "-u", "me"], ["t.py", "-u", "me"]),
        (["curl", "-H", "X-Api-Key: Zq7vX2secretW9"], ["curl", "-H", "X-Api-Key: [redacted]"]),
        (["t.py", "wandb.key=Zq7vX2secretW9"], ["t.py", "wandb.key=[redacted]"]),
        (["t.py", "sort.key=name"], ["t.py", "sort.key=name"]),
    ],
)
def test_words_of_a_command_are_masked_by_their_options(words: list[object], masked: list[object]) -> None:
    """Values of options, and of what looks like an assignment, are judged by their names."""
    told: list[str] = []

    assert secrets.without_arguments(words, told.append) == masked
    assert bool(told) is (words != masked)


@dataclasses.dataclass
class Deep:
    """A part of a config."""

    token: str = WHAT
    lr: float = 0.1


@dataclasses.dataclass
class Config:
    """A config as people have them."""

    name: str = "bert"
    api_key: str = WHAT
    deep: Deep = dataclasses.field(default_factory=Deep)


@pytest.mark.parametrize(
    "params",
    [
        {"password": WHAT},
        {"db": {"password": WHAT, "host": "h"}},
        {"sinks": [{"name": "a", "token": WHAT}, {"deep": [{"api_key": WHAT}]}]},
        {"credentials": {"user": "u", "value": WHAT}},
        {"api_keys": [WHAT, WHAT]},
        {"secret": WHAT.encode()},
        {"dotted.name.api_key": WHAT},
        {"url": f"https://u:{WHAT}@host/"},
        {"logger": {"wandb": {"key": WHAT}}},
        {"env": [{"name": "HF_TOKEN", "value": WHAT}]},
        {"headers": [("Authorization", WHAT), ("Accept", "*/*")]},
        {"start": ["curl", "-H", f"X-Api-Key: {WHAT}", "--token", WHAT]},
        {"start": ["-v", {"password": WHAT}]},
        argparse.Namespace(api_key=WHAT, lr=1),
        Config(),
        {"made_of": Config()},
    ],
    ids=lambda params: str(type(params).__name__),
)
def test_params_of_every_shape_are_masked(params: object, tmp_path: Path) -> None:
    """Mappings, lists of them, namespaces and dataclasses are looked through."""
    tracker = Tracker((), output_dir=tmp_path, lineage=False)

    with pytest.warns(EvlogWarning, match="looks like a credential"), tracker.start_run("r"):
        tracker.log_params(params)

    assert WHAT.encode() not in logged(tmp_path)
    assert b"WnE3dlgyc2VjcmV0Vzk" not in logged(tmp_path)  # the same in base 64


EVENTS: list[Callable[[Tracker], object]] = [
    lambda t: t.log_summary({"db_password": WHAT}),
    lambda t: t.log_metrics({"api_key": WHAT}),
    lambda t: t.set_tags({"api-key": WHAT}),
    lambda t: t.set_tags({"url": f"http://u:{WHAT}@h"}),
    lambda t: t.add_note(f"see http://u:{WHAT}@h"),
    lambda t: t.log_dataset("d", path=f"s3://k:{WHAT}@bucket/x"),
    lambda t: t.log_event(ev.Context(kind="mine", data={"env": {"MY_TOKEN": WHAT, "HF_TOKEN": WHAT}})),
    lambda t: t.log_event(ev.Context(kind="environment", data={"variables": {"HF_TOKEN": WHAT}})),
    lambda t: t.log_event(ev.Context(kind="git", data={"remote": f"https://u:{WHAT}@h/x.git"})),
    lambda t: t.log_event(ev.Alert(title="down", text=f"http://u:{WHAT}@h refused; password={WHAT}")),
    lambda t: t.log_event(ev.Console(stream="stdout", text=f"connect http://u:{WHAT}@h")),
    lambda t: t.log_event(
        ev.Artifact(name="a", path=f"https://h/x?sig={WHAT}", stored="reference", source=f"s3://k:{WHAT}@b/x")
    ),
    lambda t: t.log_event(ev.Checkpoint(path=f"s3://k:{WHAT}@b/x")),
    lambda t: t.log_event(ev.ModelRegistered(name="m", path=f"https://u:{WHAT}@h/m")),
    lambda t: t.log_event(ev.Model(name="m", artifact="a", path=f"https://u:{WHAT}@h/m")),
    lambda t: t.log_event(ev.Media(key="k", media_type="text", text="x", caption=f"http://u:{WHAT}@h")),
    lambda t: t.set_tags({f"http://u:{WHAT}@h": "x"}),
    lambda t: t.log_event(
        ev.RunEnded(
            status="failed", error=ev.ErrorInfo(type="E", message="m", traceback=f"http://u:{WHAT}@h")
        )
    ),
    lambda t: t.log_event(ev.Evaluation(benchmark="b", data={"model": {"api_key": WHAT}})),
    lambda t: t.log_event(
        ev.RunEnded(status="failed", error=ev.ErrorInfo(type="E", message=f"password={WHAT}"))
    ),
    lambda t: t.log_params({f"p{n}": "x" * 300_000 for n in range(5)} | {"password": WHAT}),  # spilled
]


@pytest.mark.parametrize("log", EVENTS, ids=range(len(EVENTS)))
def test_every_kind_of_event_is_masked(log: Callable[[Tracker], object], tmp_path: Path) -> None:
    """Whatever call it comes by, a credential is not written anywhere below the root."""
    tracker = Tracker(("local",), output_dir=tmp_path, lineage=False)

    with tracker.start_run("r"):
        log(tracker)

    assert WHAT.encode() not in logged(tmp_path)


def test_tags_and_notes_of_a_start_are_masked(tmp_path: Path) -> None:
    """What the config says of a run goes the same way."""
    config = TrackingConfig(tags={"token": WHAT}, notes=f"http://u:{WHAT}@h")

    with Tracker((), config, output_dir=tmp_path, lineage=False).start_run("r"):
        pass

    assert WHAT.encode() not in logged(tmp_path)


def test_numbers_and_truth_values_are_never_masked(tmp_path: Path) -> None:
    """A count is no secret, and a run that says `use_auth_token=True` says nothing more."""
    params = {"token": 7, "auth": True, "password": None, "api_key": "", "secret": "${oc.env:KEY}", "n": 1.5}
    tracker = Tracker((), output_dir=tmp_path, lineage=False)

    with tracker.start_run("r"):
        tracker.log_params(params)

    assert view(tmp_path / "default" / "r").params == params


def test_one_warning_names_the_keys(tmp_path: Path) -> None:
    """It comes once in a run, and never shows the value."""
    tracker = Tracker((), output_dir=tmp_path, lineage=False)

    with warnings.catch_warnings(record=True) as seen, tracker.start_run("r"):
        warnings.simplefilter("always")
        tracker.log_params({"db": {"password": WHAT}, "hub_token": WHAT})
        tracker.log_params({"another_secret": WHAT})

    (warning,) = [str(one.message) for one in seen if "credential" in str(one.message)]
    assert "'db.password', 'hub_token'" in warning
    assert WHAT not in warning


@pytest.mark.parametrize("how", ["argument", "environment", "file"])
def test_it_can_be_turned_off(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the program, by the environment, or for a team."""
    if how == "environment":
        monkeypatch.setenv("EVLOG_REDACT", "0")
    if how == "file":
        (tmp_path / "evlog.toml").write_text("[redact]\nenabled = false\n")
    tracker = Tracker((), output_dir=tmp_path, lineage=False, redact=False if how == "argument" else None)

    with tracker.start_run("r"):
        tracker.log_params({"password": WHAT})

    assert view(tmp_path / "default" / "r").params == {"password": WHAT}


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A team may turn it off, and one job on."""
    (tmp_path / "evlog.toml").write_text("[redact]\nenabled = false\n")
    monkeypatch.setenv("EVLOG_REDACT", "1")

    with Tracker((), output_dir=tmp_path, lineage=False).start_run("r") as run:
        run._tracker.log_params({"password": WHAT})  # type: ignore[attr-defined]

    assert WHAT.encode() not in logged(tmp_path / "default")


def test_patterns_of_ones_own_are_masked_too(tmp_path: Path) -> None:
    """By name and by text, numbers as well, for somebody asked for them."""
    (tmp_path / "evlog.toml").write_text('[redact]\npatterns = ["^ward$"]\n')
    tracker = Tracker((), output_dir=tmp_path, lineage=False, redact=[r"^patient", r"P-\d{4}"])

    with tracker.start_run("r"):
        tracker.log_params({"patient_id": 17, "about": "of P-1234", "ward": "7b", "password": WHAT, "lr": 1})

    seen = view(tmp_path / "default" / "r").params
    assert seen == {
        "patient_id": REDACTED, "about": f"of {REDACTED}", "ward": REDACTED, "password": REDACTED, "lr": 1
    }  # fmt: skip


def test_a_pattern_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    """Better at the start than a log that holds what it should not."""
    with pytest.raises(BadShapeError):
        Tracker((), output_dir=tmp_path, redact=["("])


def test_packages_keep_their_versions() -> None:
    """A package may be called what it likes; without its version nothing can be rebuilt."""
    data: dict[str, object] = {"packages": {"keyring": "1.2", "secret": "3", "token": "4"}, "python": "3.12"}

    masked = Redactor([], "r").mask(ev.Context(kind="environment", data=data))

    assert isinstance(masked, ev.Context)
    assert masked.data == data


def test_the_command_of_a_process_is_masked(tmp_path: Path) -> None:
    """What the process was started with is logged by itself, in two forms."""
    code = (
        "from eventlog import Tracker\nwith Tracker((), output_dir='.', lineage=False).start_run('r'): pass"
    )
    script = tmp_path / "train.py"
    script.write_text(code)
    words = [sys.executable, "train.py", f"--api-key={WHAT}", "--password", WHAT, "--lr", "0.1"]

    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=60)

    command = view(tmp_path / "default" / "r").context["command"]
    assert command["argv"] == ["train.py", f"--api-key={REDACTED}", "--password", REDACTED, "--lr", "0.1"]
    assert WHAT.encode() not in logged(tmp_path / "default")


def test_metrics_go_their_fast_way_untouched(tmp_path: Path) -> None:
    """The call that has to be fast meets no redactor, also where a metric is called `token`."""
    tracker = Tracker((), output_dir=tmp_path, lineage=False)

    with tracker.start_run("r"):
        tracker._stack[-1]._redactor = None  # whoever looks at it now goes wrong
        tracker.log_metrics({"token": 1.0, "secret": 2.0}, 1)

    assert set(view(tmp_path / "default" / "r").metrics) == {"token", "secret"}


@given(st.text(alphabet="ab=:'\"@/?&.-_ sk{}token password key[]1\n", max_size=400))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    """What is masked stays as it is when a run goes on, is imported or copied."""
    once = secrets.without_named(text)

    assert secrets.without_named(once) == once


@pytest.mark.parametrize(
    "unit",
    ["a", "a-", "https://", "password=", "eyJa", "'key':", "-----BEGIN PRIVATE KEY-----", "sk-", "_", "a:"],
)
def test_long_texts_come_to_an_end(unit: str) -> None:
    """No pattern looks through the rest of a text again from each place in it: that would be for hours."""
    text = (unit * 400_000)[:400_000] + " password= key :// sk- eyJ"

    assert len(secrets.without_named(text)) <= 2 * len(text)
