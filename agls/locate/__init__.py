"""Where a shot was fired, and how sure that is."""
