"""Draws curves: `terminal` as text, `figure` for matplotlib, `save` as a file."""

from eventlog.analysis.plots.drawing import figure, save
from eventlog.analysis.plots.text import terminal

__all__ = ["figure", "save", "terminal"]
