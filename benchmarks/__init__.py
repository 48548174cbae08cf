"""Measurements behind every figure in the README and the notes; one module, one command."""
