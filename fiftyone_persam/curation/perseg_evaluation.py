"""Where evaluations of version 0.1 say that their results are defined: FiftyOne stores that path.

Without this module FiftyOne would load them as plain results, without the numbers per object.
"""

from .evaluation.perseg_method import PerSegEvaluation, PerSegEvaluationConfig, PerSegResults

__all__ = ["PerSegEvaluation", "PerSegEvaluationConfig", "PerSegResults"]
