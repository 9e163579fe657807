"""Every picture of every page shows the pixels that the run holds of what it claims to be.

Chromium draws the page; what each picture claims is read from headings, captions and links, what it must show from the
run's files. Small pictures, which pages enlarge by whole factors, are compared pixel by pixel. Lossy or reduced ones
are compared in 6 × 6 cells, by the mean of each cell's middle: none may be off by more than 20 of 255 greys (40 in the
strongly lossy thumbnails of the data's page), and no other picture of the same kind may be as near. Of a lossy close-up
of few pixels the mean is compared, within 40 greys, since the colours of its edge mix with the next tile's. The runs'
pictures are random blocks of eight colours, 115 greys apart.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from filterscope.analyzer.run.reader import Run
from filterscope.reports.compare import pages
from filterscope.reports.compare.compare import compare
from filterscope.reports.page import sheets
from filterscope.reports.site import site
from support import synthetic_run
from support.chromium import IN_CHROMIUM
from support.held_pictures import HeldPictures
from support.shown_pictures import ShownPicture, shown_pictures

pytestmark = IN_CHROMIUM
CHANNELS = 27
BLEND = 2  # greys that a browser's mixing of a half clear picture with white may round away
GREYS = 8  # greys lost where a single file keeps 32 of them
MAPS = ("map", "heat", "firing", "value")
CELLS = 6  # a side, of pictures that are not compared pixel by pixel
EDGE = 40  # greys that the mean of a close-up, or a cell of a thumbnail of the data's page, may be off
OFF = 20  # greys that the mean of a cell may be off


def blocks(seed: int, index: int, size: tuple[int, int], bands: int) -> np.ndarray:
    """A picture of 6 × 6 blocks of eight colours, unlike any other, (H, W, bands) uint8."""
    rng = np.random.default_rng((seed, index, 99))
    codes = (70 + 115 * rng.integers(0, 2, (CELLS, CELLS, bands))).astype(np.uint8)
    rows, columns = (np.arange(side) * CELLS // side for side in size)
    return codes[rows][:, columns]


@pytest.fixture(scope="module")
def coded():
    """Runs with pictures of blocks; sheets of few tiles, so that each kind has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_run, "gabor", blocks)
        patch.setattr(sheets, "MOST", 8)
        yield patch


SMALL = {"size": (32, 44), "picture": 20}  # everything below 64 pixels: without loss
LARGE = {"size": (88, 120), "picture": 60}


@pytest.fixture(scope="module")
def small(coded, tmp_path_factory):
    place = tmp_path_factory.mktemp("small") / "run"
    return synthetic_run.synthetic_run(
        place, layers=4, channels=CHANNELS, images=3, studies=True, branches=True, **SMALL
    )


@pytest.fixture(scope="module")
def large(coded, tmp_path_factory):
    place = tmp_path_factory.mktemp("large") / "run"
    return synthetic_run.synthetic_run(place, layers=2, channels=CHANNELS, images=2, studies=True, **LARGE)


class Count:
    """Compares pictures with a run and counts: by claim, how many; of those that differ, what they show.

    Args:
        held: of the run.
        exact: whether small pictures that are enlarged must be so pixel by pixel.
        greys: that a map may be off, pixel by pixel.
    """

    def __init__(self, held: HeldPictures, *, exact: bool, greys: int = 0) -> None:
        self.held, self.exact, self.greys = held, exact, greys
        self.compared: Counter[str] = Counter()
        self.equal = 0  # pixel by pixel
        self.different: list[str] = []

    def take(self, shown: list[ShownPicture], where: str) -> None:
        for one in shown:
            self.compared[one.claim[0]] += 1
            expected, blended = on_white(self.held.picture(one.claim))
            allowed = max(BLEND if blended else 0, self.greys if one.claim[0] in MAPS else 0)
            off = min(pixels_off(pixels, expected) for pixels in one.pixels)
            factor = one.pixels[0].shape[0] / expected.shape[0]
            if off <= allowed:
                self.equal += 1
            elif self.exact and factor >= 2:
                self.different.append(f"{where}: {one.claim}: a pixel is off by {off}")
            else:
                self._compare_cells(one, expected, where)

    def _compare_cells(self, one: ShownPicture, expected: np.ndarray, where: str) -> None:
        own, pixels = min(((cells_off(pixels, expected), pixels) for pixels in one.pixels), key=lambda pair: pair[0])
        rivals = (on_white(rival)[0] for rival in self.held.rivals(one.claim))
        nearest = min((cells_off(pixels, rival) for rival in rivals), default=256.0)
        if own > (EDGE if one.claim[0] in ("patch", "speaker") else OFF) or nearest <= own:
            self.different.append(f"{where}: {one.claim}: a cell is off by {own:.0f}, of another by {nearest:.0f}")

    def check(self, *kinds: str) -> None:
        print(f"{self.compared.total()} compared, {self.equal} pixel by pixel, {len(self.different)} different")
        print(dict(self.compared))
        assert self.different[:20] == []
        assert set(kinds) - set(self.compared) == set()


def on_white(picture: np.ndarray) -> tuple[np.ndarray, bool]:
    """A picture without clear pixels, and whether any of them was half clear."""
    if picture.shape[2] == 3:
        return picture, False
    alpha = picture[:, :, 3:] / 255
    mixed: np.ndarray = (picture[:, :, :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    return mixed, bool(((alpha > 0) & (alpha < 1)).any())


def pixels_off(shown: np.ndarray, expected: np.ndarray) -> int:
    """The largest difference of a pixel, each looked at in the middle of the block that stands for it."""
    rows, columns = (
        np.floor((np.arange(side) + 0.5) * drawn / side).astype(int)
        for side, drawn in zip(expected.shape[:2], shown.shape[:2], strict=True)
    )
    return int(np.abs(shown[rows][:, columns].astype(int) - expected).max())


def cells_off(shown: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of the mean of a cell."""
    cells = CELLS if min(expected.shape[:2]) >= 2 * CELLS else 1
    return float(np.abs(mean_cells(shown, cells) - mean_cells(expected, cells)).max())


def mean_cells(picture: np.ndarray, cells: int) -> np.ndarray:
    """The mean of each cell's middle, which neighbours do not blur: (cells, cells, 3)."""
    rows, columns = (_middles(side, cells) for side in picture.shape[:2])
    return np.array([[picture[row, column].mean((0, 1)) for column in columns] for row in rows])


def _middles(side: int, cells: int) -> list[slice]:
    ends = np.linspace(0, side, cells + 1)
    spare = side / cells / 4
    firsts = [int(np.ceil(end + spare - 0.5)) for end in ends[:-1]]
    return [slice(first, max(first + 1, round(end - spare))) for first, end in zip(firsts, ends[1:], strict=True)]


def looked_at(page, found: Count, where: str) -> None:
    found.take(shown_pictures(page), where)


def each_mode(page, found: Count, scope: str, where: str) -> None:
    """A layer's grid, in every mode it has."""
    for mode in page.locator(f"{scope} input[name=show]").all():
        mode.check(force=True)
        looked_at(page, found, where)


def each_view(page, found: Count, address, scope: str, where: str) -> None:
    """The view of every channel."""
    for channel in range(CHANNELS):
        page.evaluate("hash => { location.hash = hash }", address(channel))
        page.wait_for_function(
            "([scope, start]) => document.querySelector(`${scope} .view h2`)?.firstChild.textContent === start",
            arg=[scope, f"Channel {channel}"],
        )
        looked_at(page, found, f"{where} #{channel}")


GRID = ("unit", "map", "patch", "thumb")
VIEW = ("example", "heat")
IMAGE = ("image", "attribution", "firing", "value", "lit", "group", "grid", "inversion", "caricature")


def visit(browser, path: Path):
    page = browser.new_context(offline=True, viewport={"width": 1600, "height": 900}).new_page()
    page.goto(path.as_uri())
    return page


def site_pictures(browser, run: Path, folder: Path, found: Count) -> None:
    for path in sorted(folder.glob("*.html")):
        page = visit(browser, path)
        if page.locator("main.layer-page").count():  # a layer that was not analysed has no pictures
            each_mode(page, found, "main", path.name)
            each_view(page, found, str, "main", path.name)
        else:
            looked_at(page, found, path.name)
        page.context.close()


def test_every_picture_of_a_site_is_the_one_that_it_claims_to_be(browser, small):
    found = Count(HeldPictures(small), exact=True)
    site_pictures(browser, small, site.render(Run(small)).parent, found)
    found.check(*GRID, *VIEW, *IMAGE, "strip", "card", "class", "mistake", "speaker")


def test_every_picture_of_a_single_file_is_the_one_that_it_claims_to_be(browser, small):
    file = site.render_single(Run(small))
    found = Count(HeldPictures(small), exact=False, greys=GREYS)
    page = visit(browser, file)
    for section in page.locator("main").all():
        name = section.get_attribute("id")
        page.evaluate("hash => { location.hash = hash }", name)
        page.wait_for_timeout(100)
        if "layer-page" in section.get_attribute("class").split():
            each_mode(page, found, f"main[id='{name}']", name)
            each_view(page, found, lambda c, name=name: f"{name}.{c}", f"main[id='{name}']", name)
        else:
            looked_at(page, found, name)
    page.context.close()
    found.check(*GRID, *VIEW, *IMAGE, "strip", "card", "class", "mistake", "speaker")


def test_every_large_picture_of_a_site_with_loss_is_the_one_that_it_claims_to_be(browser, large, monkeypatch):
    monkeypatch.setattr(site, "LOSSLESS_PIXELS", 0)
    found = Count(HeldPictures(large), exact=False)
    site_pictures(browser, large, site.render(Run(large)).parent, found)
    found.check(*GRID, *VIEW, *IMAGE, "strip", "card", "class", "mistake", "speaker")


@pytest.mark.parametrize("look", [SMALL, LARGE], ids=["small", "large"])
def test_every_picture_of_a_comparison_is_the_one_that_it_claims_to_be(browser, coded, tmp_path, look, monkeypatch):
    monkeypatch.setattr(pages, "LOSSLESS_PIXELS", 0)
    options = {"layers": 3, "channels": CHANNELS, **look}
    a = synthetic_run.synthetic_run(tmp_path / "a", **options)
    coded.setattr(synthetic_run, "gabor", lambda seed, *rest: blocks(seed + 1000, *rest))
    b = synthetic_run.synthetic_run(tmp_path / "b", statuses={2: "dead", 3: "unraised"}, **options)
    coded.setattr(synthetic_run, "gabor", blocks)
    found = Count(HeldPictures(a, b), exact=look is SMALL)
    for path in sorted(compare(Run(a), Run(b)).save(tmp_path / "out").parent.glob("*.html")):
        page = visit(browser, path)
        looked_at(page, found, path.name)
        page.context.close()
    found.check("compared")
