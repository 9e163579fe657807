"""How alike two maps are: by the order of their values, and by their structure.

Knows arrays; knows nothing of networks.
"""

from __future__ import annotations

import numpy as np

SIDE = 7  # of the window in which structure is compared, pixels


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's correlation of two maps of one shape, in [−1, 1]; equal values share their mean rank.

    A map that is the same everywhere has no order: 0.
    """
    from scipy.stats import spearmanr

    if any(values.min() == values.max() for values in (one, other)):
        return 0.0
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def structural_similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Mean SSIM of two (H, W) maps of numbers from 0 upwards, each divided by its maximum; in [−1, 1].

    Windows of 7×7, all weighed alike, sample variances, K₁ = 0.01, K₂ = 0.03; windows that reach beyond the edge are
    left out. Maps with a side under 7 are compared in one of the largest odd side that fits.

    Source: Wang, Bovik, Sheikh & Simoncelli 2004, doi:10.1109/TIP.2003.819861.
    """
    a, b = (np.asarray(values, np.float64) / (float(np.max(values)) or 1.0) for values in (one, other))
    side = min(SIDE, *(length - 1 + length % 2 for length in a.shape))

    def mean(values: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(values, (side, side))
        return np.asarray(windows.mean((2, 3)))

    mean_a, mean_b = mean(a), mean(b)
    sample = side * side / max(1, side * side - 1)
    var_a, var_b = sample * (mean(a * a) - mean_a**2), sample * (mean(b * b) - mean_b**2)
    covariance = sample * (mean(a * b) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return float(np.mean(light * structure))
