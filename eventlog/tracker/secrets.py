"""Which names and texts look like credentials.

A name is judged by its words, so that ``hub_token`` and ``apiKey`` are found and ``max_tokens``,
``primary_key`` and ``pass_rate`` are not. ``docs/explanation/security.md`` tells of the tables below.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache

from eventlog.lineage.credentials import without_credentials

REDACTED = "[redacted]"


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ANYWHERE = ("password", "passwd", "passphrase")
_WORDS = _set(
    """
    passcode passkey pw pwd pwds passwort kennwort secret secrets clientsecret apisecret appsecret credential
    credentials creds cookie cookies jwt bearer authorization dsn htpasswd sshpass dbpass userpass
    pgpass apikey apikeys secretkey accesskey accesskeyid privatekey accountkey encryptionkey
    authkey authtoken accesstoken apitoken refreshtoken sessiontoken bottoken hftoken ghtoken
    connectionstring connstr
    """
)
_AFTER = {
    "key": _set(
        """
        api access secret private ssh signing encryption decryption master account service subscription
        shared auth license deploy client consumer app application admin session rsa gpg pgp pem hmac
        aws azure gcp google openai anthropic cohere mistral groq together replicate wandb comet neptune
        clearml mlflow hf huggingface stripe datadog sendgrid twilio serpapi pinecone tavily langsmith
        kaggle gemini deepseek xai openrouter perplexity fireworks nvidia ngc voyage jina tls ssl server
        """
    ),
    "token": _set(
        """
        api access auth authentication authorization refresh bearer id secret session hf huggingface hub
        github gh gitlab git bitbucket wandb openai anthropic replicate cohere mistral slack discord
        telegram bot personal security csrf xsrf oauth oauth2 sas upload write read service account app
        client device login push pull azure aws gcp google dropbox notion jira npm pypi ci deploy
        registry private mlflow tracking databricks comet clearml neptune kaggle vault s3 identity web
        influx my user
        """
    ),
    "auth": _set("basic http https proxy registry docker redis hf git"),
    "pass": _set("db database user smtp imap mail email mysql pg postgres redis ftp admin root ssh login"),
    "pat": _set("github gh gitlab git azure devops"),
    "header": _set("auth authorization authentication"),
    "string": frozenset({"connection"}),
    "str": frozenset({"conn", "connection"}),
    "word": frozenset({"pass"}),
}
_ALONE = frozenset({"token", "auth", "oauth", "pass"})
_OF_IT = frozenset({"id", "value", "str", "string"})
# `password_file` and `api_key_env` say where it is, `pwd_len` and `token_type` what it is like.
_ABOUT = _set(
    """
    len length size dim dims count num type kind format policy strategy mode file path dir directory
    field column col env var variable ratio rate prob dropout url uri endpoint method scheme ttl expiry
    expires enabled required headers name names provider algorithm alg audience issuer prompt template
    """
)
_SPLIT = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_HARMLESS = frozenset({"", "none", "null", "true", "false", "yes", "no", "auto", "***", REDACTED})
# Where it is: `${KEY}`, `<KEY>`. And what models call tokens: `<s>`, `<|user|>`, `[MASK]`.
_ELSEWHERE = re.compile(r"\$\{[^{}]*\}|</?\|?\w{1,40}\|?>|\[[A-Z_0-9]{1,20}\]")


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Tell whether what is called *name*, with dots, may be a credential: its last part counts.

    ``wandb.key`` and ``db.pass`` count as ``wandb_key`` and ``db_pass``, for the part above says whose it is.
    """
    above, _, leaf = name[-200:].rpartition(".")
    words = _words(leaf)
    if words == ["key"]:
        words = [*_words(above.rpartition(".")[2])[-1:], "key"]
    if words[-1:] == ["webhook"] or words[-2:] == ["webhook", "url"]:
        return True
    if not words or (len(words) > 1 and words[-1] in _ABOUT):
        return False
    if any(_is_secret_word(word) for word in words) or _ends_as_secret(words):
        return True
    # The id of an access key is half of it, and the value of one is it.
    return len(words) > 2 and words[-1] in _OF_IT and _ends_as_secret(words[:-1])


def _words(name: str) -> list[str]:
    return [word.lower() for word in _SPLIT.findall(name)]


def _is_secret_word(word: str) -> bool:
    return word in _WORDS or (not word.endswith("less") and any(part in word for part in _ANYWHERE))


def _ends_as_secret(words: list[str]) -> bool:
    last = words[-1]
    if len(words) == 1:
        return last in _ALONE
    singular = last.removesuffix("s") if last in {"keys", "tokens"} else last
    return words[-2] in _AFTER.get(singular, frozenset())


def is_harmless(text: str) -> bool:
    """Tell whether *text* is no secret whatever it is called: nothing, or only where one is (``${KEY}``)."""
    return text.strip().lower() in _HARMLESS or _ELSEWHERE.fullmatch(text) is not None


# --- texts ----------------------------------------------------------------------------------------

# What a text must hold before the slower look for a token in it is worth while.
_HINTS = _set(
    """
    AKIA ASIA ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- hf_ sk- xox AIza ya29. GOCSPX- sk_live_ rk_live_
    sk_test_ rk_test_ npm_ pypi- dapi gsk_ r8_ nvapi- hvs. SG. eyJ :AA KEY----- earer sig= hooks.slack.com/
    /webhook webhook.office
    """
)
TOKENS = (
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b",
    r"\bgithub_pat_[A-Za-z0-9_]{22,255}",
    r"\bglpat-[A-Za-z0-9_-]{20,255}",
    r"\bhf_[A-Za-z0-9]{30,255}\b",
    r"\bsk-(?:[A-Za-z0-9]{32,255}\b|(?:proj|ant|or|svcacct|admin)-[A-Za-z0-9_-]{16,255})",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,255}",
    r"\bAIza[0-9A-Za-z_-]{35}",
    r"\bya29\.[A-Za-z0-9_-]{20,2048}",
    r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}\b",
    r"\bGOCSPX-[A-Za-z0-9_-]{20,64}",
    r"\bgsk_[A-Za-z0-9]{40,64}\b",
    r"\br8_[A-Za-z0-9]{37}\b",
    r"\bnvapi-[A-Za-z0-9_-]{40,128}",
    r"\bhvs\.[A-Za-z0-9_-]{24,255}",
    r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    r"(?<![0-9])[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",
    r"\bnpm_[A-Za-z0-9]{36}\b",
    r"\bpypi-AgE[A-Za-z0-9_-]{50,2048}",
    r"\bdapi[0-9a-f]{32}\b",
    r"\beyJ[A-Za-z0-9_-]{8,8192}\.eyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{0,8192}",
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
    r"\b[Bb]earer [A-Za-z0-9._~+/=-]{20,8192}",
    r"https://hooks\.slack\.com/[A-Za-z0-9/_-]{8,255}",
    r"https://[a-z0-9.-]{0,60}\.webhook\.office\.com/[^\s'\"]{8,1024}",
    r"(?<=[?&])sig=[A-Za-z0-9%+/=_-]{16,255}",
    r"https://[a-z.]{0,20}discord(?:app)?\.com/api/webhooks/[A-Za-z0-9/_-]{8,255}",
)
"""Texts that are credentials wherever they stand."""
_NAME = r"(?<!\w)([A-Za-z_][\w-]{0,60}+)"
# With a sign that each needs. None looks ahead for an end and goes back: that would take hours in a long
# text, and what was cut off has no end.
# Their possessive groups are safe also before Python 3.11.5, which forgets to go back where a round fails: no
# round of these fails behind the place where it began. Groups in (?>…) would take 200 bytes a round.
_NAMED = (
    # `api_key='x'`, `"password": "x"`: how objects and JSON show their parts
    ('"', _NAME + r"""(['"]?\s{0,4}[=:]\s{0,4}")((?:[^"\\\n]|\\.)*+)"""),
    ("'", _NAME + r"""(['"]?\s{0,4}[=:]\s{0,4}')((?:[^'\\\n]|\\.)*+)"""),
    # `{\"password\": \"x\"}`: JSON in JSON
    ("\\", _NAME + r"""(\\{1,8}['"]\s{0,4}:\s{0,4}\\{1,8}['"])([^'"\\\n]*+)"""),
    # `password=x;`, `Password = x`: how connection strings, settings and commands do
    (
        "=",
        _NAME + r"""([ \t]{0,2}=[ \t]{0,2})"""
        r"""(\[redacted\]|\$\{[^{}\n]*\}|[^\s;&,'"\\](?:[^\s;&,]*[^\s;&,'"\\)\]}])?)""",
    ),
    # `api_key: x` on a line of YAML, `Authorization: Bearer x` among headers and in commands
    (
        ":",
        r"""(?m)(?:^[ \t]{0,40}+(?:- )?|(?<=['"=]))([A-Za-z_][\w-]{0,60}+)(:[ \t]{1,4})"""
        r"""((?:(?:Bearer|Basic|Digest|[Tt]oken) |[^\s'";]*+; )*+[^\s'"]++)(?=[ \t]{0,40}(?:['"\n]|\Z))""",
    ),
    # `--api-key x`
    ("-", r"""(?<!\S)--?([A-Za-z_][\w-]{0,60}+)([ \t]{1,4})([^\s'"-]\S*+)"""),
)
_NAMED_HINTS = _set("pass pwd pw secret key token cred auth jwt dsn cookie bearer kennwort")


@cache
def _tokens() -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in TOKENS))


@cache
def _named() -> list[tuple[str, re.Pattern[str]]]:
    return [(sign, re.compile(pattern)) for sign, pattern in _NAMED]


def without_tokens(text: str) -> str:
    """Return *text* with what is unmistakably a credential masked, and addresses without theirs."""
    if any(hint in text for hint in _HINTS):
        text = _tokens().sub(REDACTED, text)
    return without_logins(text)


def without_logins(text: str) -> str:
    """Return *text* with addresses that hold a login or a signature rid of it, and otherwise as it was."""
    return without_credentials(text) if "://" in text else text


def without_named(text: str) -> str:
    """Return *text* as `without_tokens`, and without the values in it whose names are those of secrets."""
    lower = text.lower()
    if any(hint in lower for hint in _NAMED_HINTS):
        for sign, pattern in _named():
            if sign in text:
                text = pattern.sub(_masked, text)
    return without_tokens(text)


def _masked(found: re.Match[str]) -> str:
    name, _, value = found.groups()
    if not is_secret(name) or is_harmless(value):
        return found[0]
    return f"{found[0][: found.start(3) - found.start()]}{REDACTED}"


def without_arguments(words: list[object], tell: Callable[[str], None]) -> list[object]:
    """Return the words of a command with the values of ``--api-key x`` and ``password=x`` masked.

    Args:
        tell: is given the name of each.
    """
    masked: list[object] = []
    name = ""
    for word in words:
        if not isinstance(word, str):
            masked.append(word)
            continue
        is_login = name in {"u", "user", "proxy-user"} and ":" in word  # of curl
        if (is_login or is_secret(name)) and not word.startswith("-") and not is_harmless(word):
            tell(name)
            shown = REDACTED
        else:
            shown = _argument(word)
            if shown != word:
                tell(word.partition("=")[0].lstrip("-") if "=" in word else "command")
        masked.append(shown)
        name = word.lstrip("-") if word.startswith("-") and "=" not in word else ""
    return masked


def _argument(word: str) -> str:
    """Return one word of a command; dots in its name part the levels, as Hydra's do."""
    name, sign, value = word.partition("=")
    if sign and not set(name) & set(" \n\"':") and is_secret(name.lstrip("-+")) and not is_harmless(value):
        return f"{name}={REDACTED}"
    return without_named(word)
