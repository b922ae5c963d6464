"""Programs that answer their tests from memory: literal outputs in place of a computation."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from dart.grading.programs import assemble
from dart.records import Record

# Values that honest programs compare with and return all the time (base cases).
TRIVIAL = frozenset({"0", "1", "-1", "2", "''", "[]", "{}", "()", "None", "True", "False"})
LOOKED_UP = 0.5  # share of the tests whose answers are looked up


def parse_program(record: Record, text: str) -> ast.Module | None:
    """Return the syntax tree of the program that would be graded; None when it is not Python or returns nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's invalid escapes are not ours to report
        try:
            tree = ast.parse(assemble(record, text))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    return tree if any(isinstance(node, ast.Return) and node.value for node in ast.walk(tree)) else None


def is_hard_coded(record: Record, text: str) -> bool:
    """Whether a program returns an expected output whatever its arguments, or looks up most tests' inputs.

    A lookup is a branch on ``argument == test input`` (or a ``match`` case) that returns the expected output, or a
    dictionary that maps one to the other; base cases such as ``if n == 0: return 1`` are not counted.
    """
    tree = parse_program(record, text)
    cases = list(_cases(record))
    if tree is None or not cases:
        return False
    outputs = {output for _, output in cases}
    if any(_is_constant(function, outputs) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef)):
        return True
    pairs = set(_lookups(tree))
    looked_up = [case for case in cases if any((value, case[1]) in pairs for value in case[0])]
    return len(looked_up) > LOOKED_UP * len(cases)


def _cases(record: Record) -> Iterator[tuple[tuple[str, ...], str]]:
    """(source of every argument and of all of them as a tuple, source of the expected output) of every test."""
    for test in record.tests:
        try:
            tree = ast.parse(test)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            match node:
                case ast.Compare(left=ast.Call(args=[_, *_] as inputs), ops=[ast.Eq()], comparators=[output]):
                    together = ast.unparse(ast.Tuple(elts=inputs, ctx=ast.Load()))
                    yield (*map(ast.unparse, inputs), together), ast.unparse(output)


def _is_constant(function: ast.FunctionDef, outputs: set[str]) -> bool:
    """A function of arguments that does nothing but return an expected output."""
    body = [node for node in function.body if not _is_docstring(node)]
    match body:
        case [ast.Return(value=ast.expr() as value)] if function.args.args:
            return ast.unparse(value) in outputs and _is_literal(value)
    return False


def _lookups(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(input, output) sources that the program knows by heart."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.If(test=test, body=[ast.Return(value=ast.expr() as output), *_])
                | ast.IfExp(test=test, body=ast.expr() as output)
            ):
                yield from ((value, ast.unparse(output)) for value in _compared(test) if _telling(value, output))
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                yield from ((ast.unparse(k), ast.unparse(v)) for k, v in pairs if k and _is_literal(v))
            case ast.match_case(pattern=ast.MatchValue(value=key), body=[ast.Return(value=ast.expr() as output), *_]):
                if _telling(ast.unparse(key), output):
                    yield ast.unparse(key), ast.unparse(output)


def _compared(test: ast.expr) -> Iterator[str]:
    """Sources of the literals that a condition compares names with."""
    parts = test.values if isinstance(test, ast.BoolOp) else [test]
    for part in parts:
        match part:
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                yield from (ast.unparse(side) for side in (left, right) if _is_literal(side))


def _telling(value: str, output: ast.expr) -> bool:
    return _is_literal(output) and not (value in TRIVIAL and ast.unparse(output) in TRIVIAL)


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
