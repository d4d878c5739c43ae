"""A probe method of your own: nearest class centroid, with centroids shrunk towards the mean of all.

workbench probe acts.zarr --extension probe_method.py --method shrunken
"""

import numpy as np

from workbench.probing import ProbeMethod, register_probe_method


def fit(design, truth, l2):
    """Return one pair of weights (classes, d) and bias (classes,) per penalty, for features as they are."""
    # `design.x` are the training samples (n, d), `design.counts` says what each counts for (n,), and `truth`
    # (n, classes) has a 1 in the column of each sample's class.
    counts = design.counts[:, None] * truth
    share = counts.sum(0) / counts.sum()
    middle = design.counts @ design.x / design.counts.sum()
    offsets = (counts.T @ design.x) / counts.sum(0)[:, None] - middle
    variance = ((design.x - middle - truth @ offsets) ** 2).mean()
    path = []
    for shrunk in (offsets / (1 + penalty) for penalty in l2):  # `l2` are the penalties to try
        weights = shrunk / variance
        path.append((weights, np.log(share) - (shrunk * weights).sum(1) / 2 - weights @ middle))
    return path


# Its name, how its logits become probabilities, and the penalties that are tried where none are given.
register_probe_method(ProbeMethod("shrunken", fit, link="softmax", l2=(1.0, 0.1, 0.01)))
