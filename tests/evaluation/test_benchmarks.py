"""Benchmarks by name: registration, options, installed packages, and the calls that users write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from eventlog.evaluation.benchmark import BadItemError, BaseBenchmark, Benchmark, Item, Score, complete, means
from eventlog.evaluation.benchmark_registry import (
    BadBenchmarkOptionError,
    BenchmarkRegistry,
    UnknownBenchmarkError,
)
from eventlog.evaluation.benchmarks.files import FileBenchmark

DATA = Path(__file__).parent / "data"


class Capitals(BaseBenchmark):
    """A benchmark with the three methods that it must have."""

    def __init__(self, country: str = "France") -> None:
        super().__init__("capitals")
        self.country = country

    def load_dataset(self, split: str = "test", num_samples: int | None = None) -> Sequence[Item]:
        """Return two questions."""
        rows = [
            {"question": "Capital of France?", "answer": "Paris"},
            {"input": "Of Italy?", "target": "Rome"},
        ]
        return rows[:num_samples]

    def extract_answer(self, text: str) -> object:
        """Return the last word."""
        words = text.split()
        return words[-1] if words else None

    def check_answer(self, predicted: object, gold: object) -> bool:
        """Compare as they are."""
        return predicted == gold


@pytest.fixture
def capitals() -> Iterator[str]:
    """Register a benchmark for one test and yield its name."""
    BenchmarkRegistry.register("capitals", Capitals)
    yield "capitals"
    BenchmarkRegistry.unregister("capitals")


# A framework's own example of a benchmark of the user, but for its import lines and the two places that
# stand for code of the user ("# Load your dataset", "# Extract answer").
CUSTOM = """
from eventlog.evaluation.benchmarks.base import BaseBenchmark

class MyBenchmark(BaseBenchmark):
    def __init__(self):
        super().__init__("my_benchmark")

    def load_dataset(self, split="test", num_samples=None):
        # Load your dataset
        return [{"question": "1+1", "answer": "2"}, {"question": "2+2", "answer": "4"}]

    def extract_answer(self, text):
        # Extract answer from generated text
        extracted_answer = text.strip()
        return extracted_answer

    def check_answer(self, predicted, gold):
        # Check if correct
        return predicted == gold

# Register
from eventlog.evaluation.benchmark_registry import BenchmarkRegistry
BenchmarkRegistry.register("my_benchmark", MyBenchmark)
"""
CALL = """
from eventlog.evaluation.benchmark_registry import BenchmarkRegistry
import eventlog.evaluation.benchmarks

result = BenchmarkRegistry.evaluate(
    model=my_model,
    benchmark_name="{name}",
    num_samples=100
)

print(f"Accuracy: {{result.metrics['accuracy']:.1%}}")
"""


def run(code: str, cwd: Path) -> str:
    """Run *code* as a script in *cwd* and return what it printed."""
    environment = {"EVLOG_BENCHMARKS": str(DATA), "PATH": "", "HOME": str(cwd), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_custom_benchmark_of_the_older_framework_runs(tmp_path: Path) -> None:
    """Its example works with other import lines."""
    model = "my_model = lambda prompts: ['2' for prompt in prompts]"

    printed = run(CUSTOM + model + CALL.format(name="my_benchmark"), tmp_path)

    assert printed == "Accuracy: 50.0%\n"


def test_evaluation_of_the_older_framework_runs(tmp_path: Path) -> None:
    """Its example on GSM8K works with other import lines; the data here are a small sample."""
    model = "my_model = lambda prompts: ['#### 1,000' for prompt in prompts]"

    printed = run(model + CALL.format(name="gsm8k"), tmp_path)

    assert printed == "Accuracy: 25.0%\n"


def test_registered_benchmark_is_listed_and_made(capitals: str) -> None:
    """A registered class is made with its options."""
    found = BenchmarkRegistry.get(capitals, country="Italy")

    assert capitals in BenchmarkRegistry.names()
    assert isinstance(found, Capitals)
    assert found.country == "Italy"


def test_register_is_a_decorator_too() -> None:
    """Without a class it decorates one, and a later registration wins."""

    @BenchmarkRegistry.register("twice")
    def first() -> Benchmark:
        return Capitals("Spain")

    BenchmarkRegistry.register("twice", lambda: Capitals("Peru"))
    found = BenchmarkRegistry.get("twice")
    BenchmarkRegistry.unregister("twice")

    assert isinstance(first(), Capitals)
    assert isinstance(found, Capitals)
    assert found.country == "Peru"


def test_every_benchmark_of_ours_can_be_made() -> None:
    """Each name leads to a benchmark of that name, and has options."""
    for name in BenchmarkRegistry.names():
        options = {"judge": lambda prompts: prompts} if name == "judge" else {}

        assert BenchmarkRegistry.get(name, **options).name == name
        assert "data" in BenchmarkRegistry.options(name)


def test_unknown_name_is_an_error_with_the_near_ones() -> None:
    """A slip of the finger is answered with what was meant."""
    with pytest.raises(UnknownBenchmarkError, match=r"'gsm8'. Did you mean gsm8k\?"):
        BenchmarkRegistry.get("gsm8")


def test_unknown_option_is_an_error_with_the_known_ones() -> None:
    """An option that the benchmark lacks is named beside those that it has."""
    with pytest.raises(BadBenchmarkOptionError, match=r"no option 'shots'.*seed"):
        BenchmarkRegistry.get("gsm8k", shots=5)


def test_option_that_must_be_given_is_named() -> None:
    """A benchmark that cannot be made without an option says which."""
    with pytest.raises(BadBenchmarkOptionError, match="it needs the option 'judge'"):
        BenchmarkRegistry.get("judge", data="x.jsonl")


@pytest.mark.parametrize(("name", "maker"), [("", Capitals), ("x", 3)])
def test_register_refuses_what_cannot_be_made(name: str, maker: object) -> None:
    """A benchmark has a name and can be called."""
    with pytest.raises(BadBenchmarkOptionError, match="register takes a name"):
        BenchmarkRegistry.register(name, maker)  # type: ignore[call-overload]


def test_installed_package_offers_a_benchmark_that_listing_does_not_import(tmp_path: Path) -> None:
    """An entry point is listed without its import, and made when it is asked for."""
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info" / "METADATA").write_text("Name: other\nVersion: 1.0\n")
    (tmp_path / "other-1.0.dist-info" / "entry_points.txt").write_text(
        "[eventlog.benchmarks]\ntheirs = other_benchmarks:Theirs\nbroken = no_such_module:X\n"
    )
    (tmp_path / "other_benchmarks.py").write_text(
        "from tests.evaluation.test_benchmarks import Capitals\n"
        "class Theirs(Capitals):\n    def __init__(self):\n        super().__init__('Chile')\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from eventlog.evaluation.benchmark_registry import BenchmarkRegistry as R\n"
        "names = R.names()\n"
        "ours = [name for name in sys.modules if name.startswith('eventlog.evaluation.benchmarks')]\n"
        "print('theirs' in names, 'other_benchmarks' in sys.modules, ours)\n"
        "print(R.get('theirs').country)\n"
        "try:\n    R.get('broken')\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
    )

    printed = run(code, tmp_path)

    assert printed.splitlines()[:2] == ["True False []", "Chile"]
    assert printed.splitlines()[2].startswith("BenchmarkNotLoadedError broken could not be loaded")


def test_benchmark_without_more_than_the_protocol_is_completed() -> None:
    """A class of any kind with the protocol's methods gets the rest from us."""

    class Bare:
        name = "bare"

        def load_dataset(self, split: str = "test", num_samples: int | None = None) -> Sequence[Item]:
            return [{"prompt": "Capital?", "target": "Rome"}]

        def extract_answer(self, text: str) -> object:
            return text or None

        def check_answer(self, predicted: object, gold: object) -> bool:
            return predicted == gold

    benchmark = complete(Bare())
    (item,) = benchmark.load_dataset()

    assert benchmark.prompt(item) == "Capital?"
    assert benchmark.score(item, "Rome") == Score("Rome", {"correct": 1, "format": 1})
    assert benchmark.score(item, "") == Score(None, {"correct": 0, "format": 0})
    assert complete(benchmark) is benchmark


def test_item_without_question_or_answer_is_an_error_that_shows_what_it_has() -> None:
    """The message names the fields that were looked for and those that are there."""
    with pytest.raises(BadItemError, match="none of question, prompt, input; it has text"):
        Capitals().prompt({"text": "?"})


def test_items_ids_come_from_the_data() -> None:
    """An id of the data set names the sample; none is invented."""
    assert Capitals().item_id({"id": 7}, 0) == "7"
    assert Capitals().item_id({}, 0) is None


def test_means_are_over_the_samples_that_have_a_metric() -> None:
    """A metric of a part counts for its part only, and gets the result's name."""
    scores = [Score("a", {"correct": 1, "correct/easy": 1}), Score("b", {"correct": 0, "words": 3})]

    assert means(scores) == {"accuracy": 0.5, "accuracy/easy": 1, "words": 3}
    assert means([]) == {}


@pytest.mark.parametrize(
    ("file", "options", "outputs", "accuracy"),
    [
        ("gsm8k.jsonl", {"metric": "number"}, ["43", "$1,000", "-4", "61"], 0.75),
        ("multiple_choice.jsonl", {"metric": "choice"}, ["(B)", "York", "8"], 2 / 3),
        ("squad_v2.jsonl", {"metric": "f1"}, ["brandt", ""], 0.5),
        ("math.jsonl", {"question": "problem", "answer": "level"}, ["level 1", "x", "x", "2"], 0.5),
    ],
)
def test_file_is_a_benchmark_with_a_metric(
    file: str, options: dict[str, str], outputs: list[str], accuracy: float
) -> None:
    """The path of a file is a name; its metric and fields are options."""
    benchmark = BenchmarkRegistry.get(str(DATA / file), **options)
    assert isinstance(benchmark, FileBenchmark)
    items = benchmark.load_dataset()

    scores = [benchmark.score(*pair) for pair in zip(items, outputs, strict=True)]

    assert benchmark.name == Path(file).stem
    assert all(isinstance(benchmark.prompt(item), str) for item in items)
    assert benchmark.aggregate(scores)["accuracy"] == pytest.approx(accuracy)


def test_file_with_an_unknown_metric_is_refused() -> None:
    """The metrics that there are stand in the message."""
    with pytest.raises(BadBenchmarkOptionError, match="'bleu', not one of choice, exact_match, f1, number"):
        FileBenchmark("x.jsonl", metric="bleu")
