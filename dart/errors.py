"""The one exception that a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or a refused situation, told in one sentence that names the place and the cure.

    ``dart.stage`` prints the sentence without a traceback and exits with status 2.
    """
