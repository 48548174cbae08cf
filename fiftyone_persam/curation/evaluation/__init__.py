"""Evaluation: against ground truth, and of two runs against each other."""
