"""Draws curves: `terminal` as text, `figure` for matplotlib, `save` as a file."""

from eventlog.analysis.plot_figure import figure, save
from eventlog.analysis.plot_terminal import terminal

__all__ = ["figure", "save", "terminal"]
