"""The parts of a report: what is in it, where it is read, and how it is written."""
