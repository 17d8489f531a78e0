r"""MATH: what is boxed, and which answers mean the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.evaluation.benchmarks.algebra import Algebra
from eventlog.evaluation.benchmarks.competition_math import CompetitionMath, stated_answer
from eventlog.evaluation.benchmarks.latex import last_boxed, parse, rational
from eventlog.evaluation.benchmarks.math_answers import normal, same_answer

DATA = Path(__file__).parent / "data" / "math.jsonl"

WITHOUT_ALGEBRA = [
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac12", "1/2"),
    (r"\tfrac{1}{2}", r"\cfrac 1 2"),
    (r"3\frac12", "7/2"),
    ("3 1/2", "3.5"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    ("1,000", "1000"),
    ("1{,}000", "1000"),
    (r"1\,000", "1000"),
    (r"1,\!000", "1000"),
    ("$5", "5"),
    (r"\$5", "5"),
    (r"50\%", "50"),
    (r"90^\circ", "90"),
    (r"90^{\circ}", "90°"),
    (r"90\text{ degrees}", "90"),
    ("(1,2)", "( 1, 2 )"),
    (r"\left(1,\frac{1}{2}\right)", "(1,0.5)"),
    ("[1,2)", r"\left[1,2\right)"),
    (r"(-\infty,3]", r"\left(-\infty, 3\right]"),
    ("(-∞, 3]", r"(-\infty,3]"),
    (r"(1,2)\cup(3,4)", r"(3,4) \cup (1,2)"),
    ("x=5", "5"),
    (r"x \in [1,2]", "[1,2]"),
    ("f(x)=x+1", "x+1"),
    ("1,2", "2,1"),
    (r"\{1,2\}", r"\left\{ 2, 1 \right\}"),
    (r"1 \text{ and } 2", "2, 1"),
    (r"5\text{ cm}", "5"),
    ("5 cm", "5"),
    (r"10\text{ cm}^2", "10"),
    (r"18\mbox{ inches}", "18"),
    ("18 square feet", "18"),
    (r"10\text{ m/s}", "10"),
    ("007", "7"),
    (".5", "0.50"),
    ("5.0", "5"),
    ("5.", "5"),
    ("{5}", "5"),
    ("**5**", "5"),
    ("−3", "-3"),
    ("x^{2}", "x²"),
    (r"\text{Even}", "even"),
    (r"\mathrm{east}", r"\text{east}"),
    ("(B)", "B"),
    (r"\text{(B)}", "B"),
    ("2^{10}", "1024"),
    ("|3-5|", "2"),
    (r"2\pm\sqrt{3}", r"2-\sqrt3,2+\sqrt3"),
    (r"x \leq 5", r"x\le5"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"\begin{bmatrix}1/2&0\\0&1\end{bmatrix}", r"\begin{pmatrix} 0.5&0\\ 0&1 \end{pmatrix}"),
]
WITH_ALGEBRA = [
    (r"\frac{\sqrt{3}}{2}", r"\frac{1}{2}\sqrt3"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    ("2√3", r"\sqrt{12}"),
    (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"),
    ("x+1", "1+x"),
    ("(x+1)^2", "x^2+2x+1"),
    ("y = 2x+3", "3+2x"),
    ("x+y=3", "y+x-3=0"),
    ("x+y=3", "3=y+x"),
    ("3+4i", "4i+3"),
    (r"e^{i\pi}", "-1"),
    (r"\frac{\pi}{3}", r"\pi/3"),
    (r"\tfrac{3}{4}\pi", r"\frac{3\pi}{4}"),
    (r"\log_2 8", "3"),
    (r"\sqrt[3]{8}", "2"),
    ("5!", "120"),
    (r"\sin^2 x+\cos^2 x", "1"),
    (r"(\sqrt{8}, 1)", r"(2\sqrt2, 1)"),
    (r"x_1+x_2", r"x_{2}+x_{1}"),
]
DIFFERENT = [
    ("1/3", "0.33"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", "(2,1)"),
    ("1,2", "1,2,2"),
    ("12", "1,2"),
    ("(1,234)", "1234"),
    ("5", "-5"),
    ("x", "y"),
    ("2x+1", "2x-1"),
    ("x=5", "6"),
    ("10_2", "10"),
    (r"\sqrt{2}", "1.414"),
    (r"\infty", r"-\infty"),
    ("1/0", "1/0+1"),
    ("seat", "east"),
    ("ABC", "CBA"),
    ("", "0"),
    ("9^{9^{9^9}}", "9^{9^{9^8}}"),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{vmatrix}1&2\end{vmatrix}"),
]

ANSWERS = st.one_of(
    st.text(max_size=30),
    st.text("0123456789.,/-+()[]{}^_\\ xyab$%=", max_size=30),
    st.lists(
        st.sampled_from(
            [r"\frac", r"\sqrt", r"\text{", r"\left", "{", "}", "1", "x", " ", ",", ".", "cm", "²", "½", "\\"]
        ),
        max_size=12,
    ).map("".join),
)


@pytest.fixture(scope="module")
def algebra() -> Iterator[Algebra]:
    """Yield the child process that does algebra."""
    asked = Algebra()
    yield asked
    asked.close()


@pytest.mark.parametrize(("one", "other"), WITHOUT_ALGEBRA)
def test_answers_that_mean_the_same_without_algebra(one: str, other: str) -> None:
    """Forms of writing do not matter, in neither direction, and sympy is not needed."""
    assert same_answer(one, other)
    assert same_answer(other, one)


@pytest.mark.parametrize(("one", "other"), WITH_ALGEBRA)
def test_answers_that_mean_the_same_by_algebra(one: str, other: str, algebra: Algebra) -> None:
    """Algebra finds them equal, in both directions; without it they are not."""
    assert same_answer(one, other, algebra)
    assert same_answer(other, one, algebra)
    assert not same_answer(one, other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_answers_that_do_not_mean_the_same(one: str, other: str, algebra: Algebra) -> None:
    """What differs is not found equal, with algebra or without."""
    assert not same_answer(one, other, algebra)
    assert not same_answer(other, one)


@given(answer=ANSWERS)
@example(answer="½ cm ²")
def test_normal_form_has_itself_as_normal_form(answer: str) -> None:
    """Normalizing twice changes nothing more."""
    assert normal(normal(answer)) == normal(answer)


@given(one=ANSWERS, other=ANSWERS)
def test_sameness_is_reflexive_and_symmetric(one: str, other: str) -> None:
    """Every answer is the same as itself, and the order of two does not matter."""
    assert same_answer(one, one)
    assert same_answer(one, other) == same_answer(other, one)


@given(number=st.fractions(max_denominator=99))
def test_fractions_are_the_same_in_all_their_forms(number: Fraction) -> None:
    """LaTeX and plain fractions of a number are equal."""
    top, bottom = number.numerator, number.denominator

    assert same_answer(rf"\frac{{{top}}}{{{bottom}}}", f"{top}/{bottom}")


BOXES = [
    (r"so \boxed{5}", "5"),
    (r"\boxed{1} and \boxed{2}", "2"),
    (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
    (r"\fbox{7}", "7"),
    (r"$\boxed 5$", "5"),
    (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    (r"\boxed {5}", "5"),
    (r"\boxed{5", None),
    (r"\boxed{}", None),
    (r"\boxedfoo{5}", None),
    ("5", None),
]


@pytest.mark.parametrize(("text", "wanted"), BOXES)
def test_last_box_is_read_with_its_braces(text: str, wanted: str | None) -> None:
    """The last box counts, with braces inside it; one that is not closed is none."""
    assert last_boxed(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Final Answer: The final answer is $\\frac12$. I hope it is correct.", r"\frac12"),
        ("The answer is 5.", "5"),
        ("The answer is 2.5. So there", "2.5"),
        (r"Therefore the answer is \(x+1\), as wanted", "x+1"),
        ("Answer: 7", "7"),
        ("The answer is not 5", None),
        ("I don't know", None),
    ],
)
def test_answer_without_a_box_is_read_from_the_sentence(text: str, wanted: str | None) -> None:
    """What follows "the answer is" counts where nothing is boxed."""
    assert stated_answer(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "lambda x: x",
        "x.y",
        "(" * 100 + "1" + ")" * 100,
        "-" * 100 + "1",
        "1" * 400,
        "2 3",
        "",
        "x=1",
    ],
)
def test_parser_refuses_what_is_no_arithmetic(text: str) -> None:
    """Code, deep nesting and long texts have no meaning."""
    assert parse(text) is None


@pytest.mark.parametrize(
    "text", ["9**9**9**9", "9^{9^{9^9}}", "2^{99999}", "1/0", "0^{-1}", "(10^{500})^{3000}"]
)
def test_huge_and_undefined_numbers_are_not_worked_out(text: str) -> None:
    """A power beyond the limit has no value, and is found so at once."""
    node = parse(text)

    assert node is None or rational(node) is None


def test_algebra_that_takes_too_long_is_no_equality() -> None:
    """A question beyond the time limit ends the child; the next question is answered by another."""
    algebra = Algebra(time_limit_s=0.001)
    slow = "(x+y+z+a+b+c)^{40}"

    try:
        is_equal = algebra(f"{slow}-(z+y+x+a+b+c)^{{39}}(x+y+z+a+b)", "c(x+y+z+a+b+c)^{39}")
        algebra.time_limit_s = 3.0
        is_next_equal = algebra("x+1", "1+x")
    finally:
        algebra.close()

    assert not is_equal
    assert is_next_equal


def test_algebra_survives_the_death_of_its_child() -> None:
    """A child that was killed from outside costs one answer."""
    algebra = Algebra()
    try:
        assert algebra("x+1", "1+x")
        assert algebra._child is not None
        algebra._child.kill()
        algebra._child.wait()

        lost, found = algebra("x+2", "2+x"), algebra("x+2", "2+x")
    finally:
        algebra.close()

    assert (lost, found) == (False, True)


def test_without_sympy_the_benchmark_works_and_says_how_to_get_more(tmp_path: Path) -> None:
    """A broken or missing sympy costs the algebra; asking for it says how to install it."""
    (tmp_path / "sympy.py").write_text("raise ImportError('no sympy here')")
    code = (
        "from eventlog.evaluation.benchmarks.competition_math import CompetitionMath\n"
        "print(CompetitionMath().check_answer('1/2', '0.5'), CompetitionMath().check_answer('x+1', '1+x'))\n"
        "CompetitionMath(algebra=True)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout == "True False\n"
    assert "pip install 'evlog[math]'" in done.stderr


def test_scores_of_the_sample_tell_level_and_subject() -> None:
    """Results are broken down; the detail says how an answer was found right."""
    benchmark = CompetitionMath(data=DATA)
    outputs = [r"\boxed{0.5}", r"\boxed{\sqrt{12}}", "The answer is $(-2, 0)$.", r"\boxed{x^2+1}"]

    scores = [benchmark.score(*pair) for pair in zip(benchmark.load_dataset(), outputs, strict=True)]

    found = benchmark.aggregate(scores)
    assert [score.detail for score in scores] == [
        "equal by number",
        "equal by algebra",
        "equal by text",
        None,
    ]
    assert found["accuracy"] == 0.75
    assert found["format_accuracy"] == 0.75
    assert found["accuracy/level_1"] == found["accuracy/level_3"] == 1
    assert found["accuracy/level_2"] == found["accuracy/intermediate_algebra"] == 0
    assert found["format_accuracy/algebra"] == 0.5
    assert found["algebra_used"] == 0.25
