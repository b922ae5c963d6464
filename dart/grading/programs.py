"""From a completion to the program that is run: fenced code, a body to complete, or a whole function."""

from __future__ import annotations

import re
import textwrap
import warnings

from dart.records import Record

FENCE = re.compile(r"```[ \t]*\w*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
ENTRY_POINT = re.compile(r"^def[ \t]+(\w+)", re.MULTILINE)


def assemble(record: Record, completion: str) -> str:
    """Return the program of a completion, ``record.setup`` included.

    A completion that defines the entry point itself (the last top-level function of the setup) replaces the setup from
    there on; any other continues it, indented if it is not.
    """
    names = list(ENTRY_POINT.finditer(record.setup))
    entry = names[-1] if names else None
    code = _code_of(completion, entry[1] if entry else None)
    if entry is None:
        return f"{record.setup}\n{code}"
    if _defines(code, entry[1]):
        return record.setup[: entry.start()] + code
    setup = record.setup.rstrip(" \t")
    if not setup.endswith("\n"):
        return record.setup + code  # it ends in mid-line
    body = textwrap.indent(textwrap.dedent(code), "    ")
    # Decoding strips the first line's indentation, but not that of the lines below.
    ragged = "    " + code.lstrip(" \t")
    return setup + next((one for one in (code, ragged, body) if _parses(setup + one)), body)


def _code_of(completion: str, name: str | None) -> str:
    """The fenced block that defines ``name``, else the first one, else the text itself."""
    blocks = FENCE.findall(completion)
    wanted = (block for block in blocks if name and _defines(block, name))
    return next(wanted, blocks[0] if blocks else completion)


def _defines(code: str, name: str) -> bool:
    return re.search(rf"^(?:async[ \t]+)?def[ \t]+{re.escape(name)}\b", code, re.MULTILINE) is not None


def _parses(program: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's invalid escapes are not ours to report
        try:
            compile(program, "program", "exec", dont_inherit=True)  # unlike ast.parse, sees a return outside a function
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return False
    return True
