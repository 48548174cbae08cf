"""Review: states, decisions, threshold, corrections by hand."""
