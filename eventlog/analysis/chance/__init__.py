"""Whether one run, or one group of seeds, is better than another by more than chance."""
