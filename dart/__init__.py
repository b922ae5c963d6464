"""Reproduction harness for DART (arXiv 2605.26924): the stages and what they share.

Importing this package never imports torch; the stages do, when they run.
"""

__version__ = "0.1.0"
