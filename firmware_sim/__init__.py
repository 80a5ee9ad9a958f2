"""A simulated city, where truth is known: it computes its own physics and shares no formula with `agls`."""
