"""Says which data a run reads: hash, rows, columns, and how they were split."""
