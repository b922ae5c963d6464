"""Exact values of arithmetic expressions, given as tokens: what ``dart.reward.equations`` compares."""

from __future__ import annotations

import ast
import re
from fractions import Fraction

MAX_DIGITS = 15
MAX_POWER = 12

PERCENT = re.compile(r"([\d.]+) %")
FRACTION = re.compile(r"/ (\d+) / (\d+)(?! [/*]| \*\*)")


def rounds(exact: Fraction, stated: Fraction, decimals: int) -> bool:
    """Whether ``stated`` is ``exact`` rounded or cut to its decimals; whole numbers must be exact."""
    unit = Fraction(1, 10**decimals)
    cut = 0 <= (exact - stated) * (1 if exact > 0 else -1) < unit
    return decimals > 0 and (cut or abs(exact - stated) <= unit / 2)


def readings(tokens: tuple[str, ...]) -> list[Fraction | None]:
    """The values that an expression may have: percent as hundredths or as plain figures; ``6 / 1/2`` both ways."""
    text = " ".join(token.lstrip("0") or "0" if token.isdigit() else token for token in tokens)
    texts = [text.replace(" %", ""), PERCENT.sub(r"(\1 / 100)", text)]
    texts += [FRACTION.sub(r"/ (\1 / \2)", reading) for reading in texts]
    return [_value(reading) for reading in dict.fromkeys(texts)]


def _value(text: str) -> Fraction | None:
    """Exact value of an arithmetic expression, or None (not an expression, division by zero, too large)."""
    if re.search(rf"\d{{{MAX_DIGITS + 1}}}", text):
        return None
    try:
        return _evaluate(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError, MemoryError):
        return None


def _evaluate(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float()):
            return Fraction(repr(node.value))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            value = _evaluate(node.operand)
            return -value if isinstance(node.op, ast.USub) else value
        case ast.BinOp():
            return _apply(node.op, _evaluate(node.left), _evaluate(node.right))
    raise ValueError(ast.dump(node))


def _apply(operator: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.Pow() if right.denominator == 1 and abs(right) <= MAX_POWER:
            return Fraction(left ** int(right))
    raise ValueError(operator)
