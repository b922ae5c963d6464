"""Arithmetic brought to one spelling before ``dart.reward.equations`` reads it: LaTeX, signs, words for operators."""

from __future__ import annotations

import re

# In this order; § is an equals sign made of a word.
SPELLINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), to)
    for pattern, to in (
        (r"<<[^<>]*>>", ""),
        (r"(?<=\d)(?:\{,\}|,\\!)(?=\d{3})|(?<=\d),(?=\d{3}(?!\d))", ""),
        (r"(?<=\d)\s*\\d?frac", r" @ "),  # a mixed number
        (r"\\d?frac\s*(\d)\s*(\d)", r"((\1)/(\2))"),
        (r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))"),
        (r"\\(?:times|cdot)\b|[\u00d7\u2219\u00b7\u22c5]", "*"),
        (r"\\div\b|\u00f7", "/"),
        (r"\\left|\\right|\\[,;!]|&", ""),
        (r"\\\$", "$"),
        (r"\\%", "%"),
        (r"\\\\|\\[][()]", "\n"),
        (r"[\u2212\u2013\u2014]", "-"),
        (r"\*\*(?!\s*[\d(])|(?<![\d)\s])\s*\*\*", ""),  # bold type
        (r"(?<=\d)\s*\^\s*\{?(\d)\}?", r"**\1"),
        (r"(?<=[\d)])[ \t]*x[ \t]*(?=[$(\d.])|(?<=\w)[ \t]+x[ \t]+(?=[$(\d.])", " * "),
        (r"(?<=[\d)%])\s+(?:multiplied by|times)\s+(?=[$(\d])", " * "),
        (r"(?<=[\d)%])\s+divided by\s+(?=[$(\d])", " / "),
        (r"(?<=[\d)%])\s+plus\s+(?=[$(\d])", " + "),
        (r"(?<=[\d)%])\s+minus\s+(?=[$(\d])", " - "),
        (r"\)\s*\(|(?<=\d)\((?=[\d(.])", lambda m: m[0].replace("(", "*(") if m[0] == "(" else ")*("),
        (r"(?<=[\d)])\s*[.;]\s*(?:it|this|that)\s+(?:is|equals|gives|makes)\s+(?=[$\d-])", " § "),
        (r"\s(?:is equal to|equals|gives|makes|is)\s+(?=[$\d-])", " § "),
        (r"\s*\n\s*(?=[=§])", " "),
    )
)


def spell(text: str) -> str:
    """Return the text with its arithmetic spelt in one way; words beside it stay."""
    for pattern, to in SPELLINGS:
        text = pattern.sub(to, text)
    return text
