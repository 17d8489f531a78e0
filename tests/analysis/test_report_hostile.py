"""Reports on logs that anybody may have written: nothing in them becomes HTML, a link or a request."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.analysis.reporting import Report, report, to_html, to_markdown
from tests.analysis.support_statistics import log_run

ATTACK = "\"><script>window.owned=1</script><img src=x onerror=owned=1>' onclick='x"
BIDI = "\u202eevil\u202c\x1b[31m\x07 שלום https://evil.example www.evil.example javascript:alert(1)"

ELEMENTS = frozenset(
    [
        *("html", "head", "meta", "title", "style", "script", "body", "header", "footer", "main", "section"),
        *("nav", "a", "div", "span", "p", "br", "h1", "h2", "h3", "dl", "dt", "dd", "small", "strong", "bdi"),
        *("code", "table", "thead", "tbody", "tr", "th", "td", "label", "input", "details", "summary"),
        *("figure", "img", "figcaption", "svg", "g", "path", "line", "text", "circle"),
    ]
)


class Page(html.parser.HTMLParser):
    """What a browser would see: elements, attributes, and the texts of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.open: list[str] = []
        self.data: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}
        if tag not in {"meta", "input", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.data.append(data)
        elif self.open and self.open[-1] != "style":
            self.words += data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report on runs all of whose names and texts are attacks."""
    root = tmp_path_factory.mktemp("root")
    for i in range(4):
        log_run(
            root,
            f"h{i}",
            experiment=ATTACK,
            params={"aug" + ATTACK: ATTACK if i < 2 else BIDI, "seed": i % 2, "nested": {BIDI: [ATTACK]}},
            tags={ATTACK: BIDI, "decision": ATTACK},
            points=[
                (s, {"val/acc" + ATTACK: math.nan if s == 3 else s / 9, "</script>" + BIDI: s})
                for s in range(9)
            ],
            events=[
                ev.Note(text=f"{ATTACK}\n{BIDI}\n# a | b"),
                ev.Context(kind="git", data={"commit": ATTACK, "is_dirty": True}),
                ev.Dataset(name=ATTACK, version=BIDI),
                ev.Evaluation(benchmark=ATTACK, metrics={"accuracy": i / 10, BIDI: 1}),
                ev.Sample(benchmark=ATTACK, index=0, input=ATTACK, target=[BIDI], metrics={"correct": 0}),
                ev.RunEnded(status="failed", error=ev.ErrorInfo(type=ATTACK, message=BIDI)),
            ],
        )
    return report(root)


def test_report_page_holds_no_element_but_its_own(hostile: Report) -> None:
    """Names that are markup are shown as they are, and every element is closed where it should be."""
    page = Page(to_html(hostile))

    assert page.open == []
    assert page.elements <= ELEMENTS
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in {"style", "srcset"}]
    assert ATTACK in page.words


def test_report_page_asks_for_nothing(hostile: Report) -> None:
    """Addresses are of this page only; a policy says so too."""
    page = to_html(hostile)
    seen = Page(page)

    addresses = {value for name, value in seen.attributes if name in {"href", "src", "xlink:href", "action"}}
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
    assert "default-src 'none'" in page
    assert "url(" not in page
    assert "@import" not in page


def test_report_page_data_cannot_leave_its_element(hostile: Report) -> None:
    """What scripts read is JSON without a bracket that HTML could take for its own."""
    data = [text for text in Page(to_html(hostile)).data if text.startswith("{")]

    assert len(data) == len(hostile.charts) >= 2
    for text in data:
        assert "<" not in text
        assert json.loads(text)["curves"][0]["x"][0] == 0


def test_report_shows_characters_that_change_directions(hostile: Report) -> None:
    """Neither page holds a control or a mark of direction; both say that there was one."""
    for page in (to_html(hostile), to_markdown(hostile)):
        assert not {c for c in page if not c.isprintable()} - {"\n"}
        assert "u202eevil" in page


def test_report_in_markdown_makes_no_links_or_markup(hostile: Report) -> None:
    """GitHub makes links of bare addresses; it finds none."""
    page = to_markdown(hostile)

    assert "://" not in page
    assert "www." not in page
    assert "<script" not in page
    assert "<img" not in page


def test_report_script_and_style_are_those_of_the_policy(hostile: Report) -> None:
    """A byte too many in either, and a browser would run or apply nothing."""
    page = to_html(hostile)

    for element in ("style", "script"):
        content = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
        assert len(content) == 1
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in page


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_report_page_in_a_browser_runs_its_own_script_alone(hostile: Report, tmp_path: Path) -> None:
    """The policy lets the page's script run: it marks the page, and prepares each chart."""
    page = tmp_path / "report.html"
    page.write_text(to_html(hostile).replace("</main>", "<script>document.title='owned'</script></main>"))
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]

    done = subprocess.run(
        ["chromium", *flags, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip

    assert '<html lang="en" class="js">' in done.stdout
    assert done.stdout.count('<div class="tip hidden"></div>') == len(hostile.charts)
    assert "<title>owned</title>" not in done.stdout
