"""Mutants of a module, made by cosmic-ray's operators, and those of them that are known to survive.

A mutant is known by the function in which it is and by its line before and after, so that an
explanation stays with it however much is written elsewhere.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

TREE = Path(__file__).parents[2]
EXPLAINED = Path(__file__).with_name("surviving.json")


class Key(NamedTuple):
    """What a mutant is known by; *nth* tells apart those that read the same."""

    module: str
    function: str
    was: str
    becomes: str
    nth: int


class Mutant(NamedTuple):
    """A module with one thing changed, at *line*."""

    key: Key
    line: int
    source: str

    def __str__(self) -> str:
        module, function, was, becomes, nth = self.key
        return f"{module}, {function}: {was!r} as {becomes!r}" + f" #{nth}" * (nth > 1)


class Explanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why mutants survive: nobody can tell them from the original, or why nobody needs to.

    In all of what names the mutants an ellipsis (``…``) stands for any text, so that a whole class of them
    is explained once.
    """

    module: str
    function: str
    was: str
    becomes: list[str]
    why: str

    def patterns(self) -> Iterator[Pattern]:
        """Yield what it is about, one for each of *becomes*."""
        return (Pattern(self.module, self.function, self.was, one) for one in self.becomes)


class Pattern(NamedTuple):
    """What mutants may be known by, with an ellipsis for any text."""

    module: str
    function: str
    was: str
    becomes: str

    def matches(self, key: Key) -> bool:
        """Tell whether it is about the mutant *key*."""
        named = (key.module, key.function, key.was, key.becomes)
        return all(_expression(mine).fullmatch(its) for mine, its in zip(self, named, strict=True))


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("…"))))


def explanations() -> list[Explanation]:
    """Return what is known of survivors."""
    return msgspec.json.decode(EXPLAINED.read_bytes(), type=list[Explanation])


def is_installed() -> bool:
    """Tell whether the operators are there."""
    return importlib.util.find_spec("cosmic_ray") is not None


def mutants(module: str, tree: Path = TREE) -> list[Mutant]:
    """Return all mutants of *module*, each once, without those that are the same program."""
    source = (tree / module).read_text()
    lines, functions = source.splitlines(), _functions(source)
    seen, times, made = {_meaning(source)}, Counter[Key](), []
    for mutated in _mutated(source):
        try:
            meaning = _meaning(mutated)
        except SyntaxError:
            continue
        if meaning in seen:
            continue
        seen.add(meaning)
        line, was, becomes = _difference(lines, mutated.splitlines())
        key = Key(module, functions.get(line, ""), was, becomes, 1)
        times[key] += 1
        made.append(Mutant(key._replace(nth=times[key]), line, mutated))
    return made


def _mutated(source: str) -> Iterator[str]:
    plugins = importlib.import_module("cosmic_ray.plugins")
    change = importlib.import_module("cosmic_ray.mutating").mutate_code
    for name in sorted(plugins.operator_names()):
        if "Variable" in name:  # they replace variables whose names they are given
            continue
        operator = plugins.get_operator(name)()
        for occurrence in itertools.count():
            try:
                mutated = change(source, operator, occurrence)
            except AttributeError:  # it knows no `except` of several kinds
                continue
            if mutated is None:
                break
            yield mutated


class _Bare(ast.NodeTransformer):
    """Takes away what is not run: types of parameters and variables in functions, and kinds of parameters."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        of = node.args
        # How an argument may be given is for mypy to tell.
        of.args, of.posonlyargs, of.kwonlyargs = [*of.posonlyargs, *of.args, *of.kwonlyargs], [], []
        of.defaults, of.kw_defaults = [*of.defaults, *filter(None, of.kw_defaults)], []
        for inner in ast.walk(node):
            if isinstance(inner, ast.arg):
                inner.annotation = None
            elif isinstance(inner, ast.AnnAssign):
                inner.annotation = ast.Constant(None)
        self.generic_visit(node)
        return node


def _meaning(source: str) -> str:
    return ast.dump(_Bare().visit(ast.parse(source)))


def _functions(source: str) -> dict[int, str]:
    """Return the qualified name of the function or class around each line."""
    names: dict[int, str] = {}

    def visit(node: ast.AST, outer: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                name = f"{outer}.{child.name}".lstrip(".")
                first = min([child.lineno, *(one.lineno for one in child.decorator_list)])
                names.update(dict.fromkeys(range(first, (child.end_lineno or first) + 1), name))
                visit(child, name)
            else:
                visit(child, outer)

    visit(ast.parse(source), "")
    return names


def _difference(before: list[str], after: list[str]) -> tuple[int, str, str]:
    """Return where, from 1, the lines begin to differ, and the first line that does before and after."""
    pairs = zip(before, [*after, *[""] * len(before)], strict=False)
    at, (was, becomes) = next((at, pair) for at, pair in enumerate(pairs, 1) if pair[0] != pair[1])
    if len(after) < len(before):
        becomes = ""
    return at, was.strip(), becomes.strip()
