"""PerSAM: segment one object in any photo, without training (paper, section 3.2)."""

from __future__ import annotations

from .cascade_method import CascadeMethod


class PerSAM(CascadeMethod):
    """Training-free personalization of a promptable model.

    Args:
        sam: from `load_sam`, or a ``segment_anything.modeling.Sam``.
        mode: "corrected", or "reference" for exactly what the released code computes.
        negative_prior: also prompt with the least similar cell, as background.
        guided_attention: bias the decoder's attention by the similarity map (eq. 8).
        semantic_prompt: add the target feature to the decoder's tokens (eq. 10).
        post_refinement: run the two further passes.
        presence_threshold: an object whose presence is below it counts as absent and gets an empty
            mask; 0 keeps every mask. None is 0.5 in corrected mode and 0 in reference mode.
        several_references: how several references become one similarity map: "max" takes the most
            similar one at each cell (views that look different), "mean" their mean, "agreement" a
            mean by how much they look like one another, "parts" the most similar parts of them all.
        max_instances: objects that look the same to find in one photo, at most; corrected mode.
        location_prior: a name in `LOCATION_PRIORS`; the mode's own if None. Corrected mode.
        positive_points: most similar places of one object to prompt with. None is 3 in corrected
            mode; reference mode has 1.

    Raises:
        PersamError: an unknown mode or location prior, a threshold outside [0, 1], or a wrong
            number of instances.
    """

    name = "persam"
    title = "PerSAM"
    help = "starts at once, without tuning; ahead with the bundled sam_lite"
