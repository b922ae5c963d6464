"""Six styles in which a chain of thought can be written, and two for programs.

Every style ends with ``#### answer``, is correct, and says everything a reader needs; they differ in form only, so
that a mismatch between writer and learner is one of style and not of quality.
"""

from __future__ import annotations

from dart.world.problems import Problem, Step, nested

STYLES = ("equation", "narrated", "labelled", "reduced", "named", "checked")
VERBS = {"+": "add", "-": "subtract", "*": "multiply by", "/": "divide by"}
VARIABLES = "abcdefgh"


def render(problem: Problem, style: str) -> str:
    """Write the solution of a problem in a style; for programs, ``narrated``-like styles use assignments."""
    if problem.is_code:
        return program(problem, style)
    lines = {
        "equation": _equation,
        "narrated": _narrated,
        "labelled": _labelled,
        "reduced": _reduced,
        "named": _named,
        "checked": _checked,
    }[style](problem)
    return f"{' '.join(lines)} #### {problem.answer}"


def program(problem: Problem, style: str) -> str:
    """One-line Python: a single expression for ``equation`` and ``reduced``, assignments for the others."""
    if style in ("equation", "reduced"):
        body = f"return {nested('x', problem.steps, division='//')}"
    else:
        lines = [f"x = x {'//' if s.operator == '/' else s.operator} {s.operand}" for s in problem.steps]
        body = "; ".join([*lines, "return x"])
    if problem.setup:
        return body
    name = problem.tests[0].split("(")[0].removeprefix("assert ")
    return f"def {name}(x): {body}"


def _operation(step: Step) -> str:
    return f"{step.before} {step.operator} {step.operand}"


def _equation(problem: Problem) -> list[str]:
    """``12 + 5 = 17. 17 * 2 = 34.``"""
    return [f"{_operation(s)} = {s.after}." for s in problem.steps]


def _narrated(problem: Problem) -> list[str]:
    """``Start with 12. Now add 5 to get 17. Now multiply by 2 to get 34.``"""
    told = [f"Now {VERBS[s.operator]} {s.operand} to get {s.after}." for s in problem.steps]
    return [f"Start with {problem.start}.", *told]


def _labelled(problem: Problem) -> list[str]:
    """``Step 1: 12 + 5 gives 17. Step 2: 17 * 2 gives 34.``"""
    return [f"Step {i}: {_operation(s)} gives {s.after}." for i, s in enumerate(problem.steps, start=1)]


def _reduced(problem: Problem) -> list[str]:
    """``(12 + 5) * 2 = 17 * 2 = 34.``"""
    steps = problem.steps
    forms = [nested(str(steps[i].before), steps[i:]) for i in range(len(steps))]
    return [" = ".join([*forms, str(problem.answer)]) + "."]


def _named(problem: Problem) -> list[str]:
    """``Let a = 12. Let b = a + 5 = 17. Let c = b * 2 = 34.``"""
    lines = [f"Let a = {problem.start}."]
    for i, s in enumerate(problem.steps):
        lines.append(f"Let {VARIABLES[i + 1]} = {VARIABLES[i]} {s.operator} {s.operand} = {s.after}.")
    return lines


def _checked(problem: Problem) -> list[str]:
    """``To find: 12 + 5. It is 17. To find: 17 * 2. It is 34.``"""
    return [f"To find: {_operation(s)}. It is {s.after}." for s in problem.steps]
