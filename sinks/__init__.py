"""The sinks that come with evlog."""
