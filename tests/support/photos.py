"""Pictures drawn for tests."""

import numpy as np


def photo(side=24, bands=3):
    """Smooth colours and one sharp edge."""
    across, down = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    planes = [across, down, 1 - across, across * down, down * (1 - across)][:bands]
    picture = np.stack(planes, axis=2) * 200 + 20
    picture[: side // 3, : side // 2] = 235
    return picture.astype(np.uint8)
