"""What the child process finds out: one module for each kind of context, and what they share."""
