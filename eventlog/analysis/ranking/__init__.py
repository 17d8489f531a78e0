"""Who is best: leaderboards, and decisions by a rule."""
