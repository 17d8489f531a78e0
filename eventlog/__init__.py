"""evlog: an experiment tracker whose log is the truth."""
