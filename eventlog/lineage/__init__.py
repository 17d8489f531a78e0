"""Where a run comes from: captured without being asked, audited, and taken to reproduce it."""
