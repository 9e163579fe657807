"""The site as Firefox shows it from the disk, where each file is an origin and a storage of its own.

What Chromium is tested for too (test_site_in_browser.py and others) is tested here where engines differ: the policy of
pages from a disk, pictures, filters, storage, addresses, dialogs and downloads.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filterscope.analyzer.run.reader import Run
from filterscope.reports.page import heat
from filterscope.reports.site.site import render, render_single
from support.firefox import ENTER, ESCAPE, RIGHT
from support.synthetic_run import HOSTILE_NAMES, synthetic_run

IMAGES, CHANNELS = 3, 12
PICTURES = """
for (const image of document.images) image.loading = 'eager';
const urls = new Set([...document.images].map((image) => image.src));
for (const element of document.querySelectorAll('main *'))
  for (const pseudo of [null, '::before'])
    for (const [, url] of getComputedStyle(element, pseudo).backgroundImage.matchAll(/url\\("([^"]+)"\\)/g))
      urls.add(url);
return Promise.all([...urls].map(async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode().catch(() => {});
  return [url.slice(0, 200), image.naturalWidth];
}));
"""
SHOWN = "return [...document.querySelectorAll('.units li')].filter(e => e.checkVisibility()).map(e => e.innerText)"
NO_PHOTO = """
const sheet = new CSSStyleSheet();
sheet.replaceSync(`.thumb { visibility: hidden !important; }
  .overlay, .map-heat { border-radius: 0 !important; } body, .overlay { background: #fff !important; }`);
document.adoptedStyleSheets = [sheet];
"""
PAGES = [  # page, anchor, what can be seen on it
    ("index.html", "", "h1"),
    ("layer-FIRST.html", "", ".units .u"),
    ("layer-FIRST.html", "#5", ".view .twin"),
    ("layer-FIRST.html", "#order=channel&find=2-4", ".units .u"),
    ("image-0.html", "", ".seen img"),
    ("data.html", "", ".confusion, .matrix"),
    ("classes.html", "", ".class-tile"),
    ("method.html", "", "h1"),
    ("../report.html", "", "h1"),
    ("../report.html", "#layer-FIRST.5", ".layer-page .view .twin"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("run") / "run"
    written = synthetic_run(
        place, layers=2, channels=CHANNELS, images=IMAGES, names=HOSTILE_NAMES, status="partial", studies=True
    )
    render(Run(written))
    render_single(Run(written))
    return Run(written)


@pytest.fixture
def quiet(firefox):
    """Firefox; at the end, no page may have complained."""
    firefox.complaints()
    yield firefox
    assert firefox.complaints() == []


def address(run: Run, name: str, anchor: str = "") -> tuple[Path, str]:
    """A page and its anchor, FIRST being the slug of the first layer."""
    slug = run.layers[0]["slug"]
    return run.folder / "site" / name.replace("FIRST", slug), anchor.replace("FIRST", slug)


@pytest.mark.parametrize(("name", "anchor", "there"), PAGES, ids=[name + anchor for name, anchor, _ in PAGES])
def test_each_page_opens_from_the_disk_without_a_complaint(quiet, run, name, anchor, there):
    quiet.goto(*address(run, name, anchor))
    quiet.wait("return [...document.querySelectorAll(arguments[0])].some(e => e.checkVisibility())", there)
    pictures = quiet.run(PICTURES)
    assert pictures or name == "method.html"
    assert [url for url, width in pictures if not width] == []
    loaded = quiet.run("return performance.getEntriesByType('resource').map(one => one.name)")
    assert [url for url in loaded if not url.startswith(("file:", "data:", "blob:"))] == []


def test_what_is_wrong_with_a_page_is_seen(firefox, tmp_path):
    """The oracle of the test above: it must notice what a page may not do."""
    policy = "default-src 'none'; script-src 'self' file:"
    (tmp_path / "bad.js").write_text("console.log('one word'); undefinedHere();", "utf-8")
    (tmp_path / "bad.html").write_text(
        f'<!doctype html><title>bad</title><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<p style="color: red">x</p><img src="http://example.com/a.png"><script src="bad.js"></script>',
        "utf-8",
    )
    firefox.complaints()
    firefox.goto(tmp_path / "bad.html")
    told = "\n".join(firefox.complaints())
    for part in ("one word", "undefinedHere is not defined", "inline style", "example.com"):
        assert part in told


def test_a_tile_has_the_colours_of_its_picture(quiet, run):
    row = next(r for r in run.units.to_pylist() if r["layer"] == run.layers[0]["name"] and r["channel"] == 6)
    expected = run.tile(row)
    quiet.goto(*address(run, "layer-FIRST.html", "?maps=common+pixels"))
    shown = quiet.screenshot('.u[id="6"]')
    factor, top = 128 // max(expected.shape[:2]), 24  # the line above, with its number
    picture = shown[top : top + factor * expected.shape[0], : factor * expected.shape[1]]
    middle = picture[factor // 2 :: factor, factor // 2 :: factor]
    assert (middle[1:-1, 1:-1] == expected[1:-1, 1:-1]).all()  # corners are round


def test_a_map_has_the_colours_of_its_numbers(quiet, run):
    layer, channel = run.layers[0], 4
    rows = [row for row in run.maps(layer["slug"]).to_pylist() if row["channel"] == channel]
    best = max(rows, key=lambda row: (row["maximum"], -row["image"]))
    value = run.tile(best)[:, :, 0] / 255
    steps = np.linspace(0, 1, len(heat.VIRIDIS))
    colour = np.stack([np.interp(value, steps, heat.VIRIDIS[:, band]) for band in range(3)], -1)
    cover = (heat.CLEAR + (heat.DENSE - heat.CLEAR) * value)[..., None]
    expected = colour * cover + 255 * (1 - cover)
    quiet.goto(*address(run, "layer-FIRST.html", f"#{channel}"))
    quiet.wait("return document.querySelector('.view [data-maps=own]')")
    quiet.click(".view [data-maps=own]")
    quiet.click(".view [data-maps=pixels]")
    quiet.run(NO_PHOTO)
    shown = quiet.screenshot(".view [aria-label='On your images'] .overlay").astype(int)
    down, right = (((np.arange(n) + 0.5) * s / n).astype(int) for n, s in zip(value.shape, shown.shape, strict=False))
    assert np.abs(shown[down][:, right] - expected)[1:-1, 1:-1].max() < 6


@pytest.mark.parametrize("name", ["index.html", "layer-FIRST.html", "../report.html"])
def test_the_search_finds_channels_and_leads_to_them(quiet, run, name):
    quiet.goto(*address(run, name))
    quiet.type("#search", f"{run.layers[1]['name'][:12]} 7")
    quiet.wait("return document.querySelectorAll('.hit').length")
    texts = quiet.run("return [...document.querySelectorAll('.hit')].map(hit => hit.innerText)")
    assert "channel 7" in texts[0]
    quiet.press(ENTER)
    heading = "return [...document.querySelectorAll('.view h2')].find(e => e.checkVisibility())?.innerText"
    assert quiet.wait(heading).startswith("Channel 7")


def test_a_channel_opens_by_click_and_by_address_and_keys_walk_on(quiet, run):
    title = "return document.querySelector('.view:not([hidden]) h2')?.innerText"
    quiet.goto(*address(run, "layer-FIRST.html"))
    quiet.click('.u[id="9"]')
    assert quiet.wait(title).startswith("Channel 9")
    assert quiet.run("return location.hash") == "#9"
    quiet.send("WebDriver:Back")
    quiet.wait("return document.querySelector('.view').hidden")
    quiet.goto(*address(run, "layer-FIRST.html", "#3"))
    assert quiet.wait(title).startswith("Channel 3")
    quiet.goto(*address(run, "layer-FIRST.html", "#order=channel"))
    quiet.click('.u[id="3"]')
    quiet.wait(title)
    quiet.press(RIGHT)
    quiet.wait("return location.hash === '#4' && document.querySelector('.view h2').innerText.startsWith('Channel 4')")
    quiet.press(ESCAPE)
    quiet.wait("return document.querySelector('.view').hidden")


def test_what_is_chosen_stands_in_the_address_and_comes_back(quiet, run):
    first = "return document.querySelector('.units li:not([hidden]) .u').id"
    quiet.goto(*address(run, "layer-FIRST.html"))
    quiet.type("[name=order]", "number")
    quiet.wait("return location.hash === '#order=channel'")
    assert quiet.run(first) == "0"
    quiet.type("[name=find]", "2-4")
    quiet.wait("return location.hash === '#order=channel&find=2-4'")
    shown = quiet.run(SHOWN)
    assert len(shown) == 3
    quiet.goto(*address(run, "index.html"))
    quiet.goto(*address(run, "layer-FIRST.html", "#order=channel&find=2-4"))
    assert quiet.wait(SHOWN) == shown
    quiet.goto(*address(run, "layer-FIRST.html"))
    quiet.click(".shows label:has([value=w])")
    quiet.wait("return location.hash === '#show=w'")
    quiet.send("WebDriver:Back")
    quiet.wait("return document.querySelector('[value=k0]').checked")


def test_a_picture_opens_large_and_closes(quiet, run):
    quiet.goto(*address(run, "layer-FIRST.html", "#5"))
    quiet.wait("return document.querySelector('.view .twin')")
    small = quiet.run("return document.querySelector('.view .twin').getBoundingClientRect().width")
    quiet.click(".view .twin")
    assert quiet.wait("return document.querySelector('dialog[open] .large-picture > *')?.offsetWidth") > small
    assert quiet.run("return document.querySelector('dialog[open] .large-title').innerText")
    quiet.press(RIGHT)
    quiet.press(ESCAPE)
    quiet.wait("return !document.querySelector('dialog[open]')")
    assert quiet.run("return location.hash") == "#5", "Escape closes the picture alone"
    quiet.press(ENTER)
    quiet.wait("return document.querySelector('dialog[open]')")
    quiet.click("dialog .close")
    quiet.wait("return !document.querySelector('dialog[open]')")


def test_the_choice_of_scale_is_remembered_through_links(quiet, run):
    quiet.goto(*address(run, "image-0.html"))
    quiet.click("[data-maps=own]")
    quiet.click("[data-maps=pixels]")
    quiet.click(".firing h3 a")
    quiet.wait("return location.pathname.includes('layer-')")
    assert quiet.run("return document.documentElement.className") == "own-scale map-pixels"
    quiet.click("nav .home")
    quiet.wait("return location.pathname.endsWith('index.html')")
    quiet.goto(*address(run, "image-0.html"))
    assert quiet.run("return document.documentElement.className") == "own-scale map-pixels", "each file remembers"


@pytest.mark.parametrize("name", ["layer-FIRST.html", "../report.html"])
def test_the_png_of_a_channel_is_downloaded_from_a_page_on_the_disk(quiet, run, name):
    is_single = name.startswith("..")
    layer = run.layers[0]
    row = next(r for r in run.units.to_pylist() if r["layer"] == layer["name"] and r["channel"] == 6)
    quiet.goto(*address(run, name, "#layer-FIRST.6" if is_single else "#6"))
    button = f".view:not([hidden]) {'button' if is_single else 'a.button[download]'}"
    quiet.wait("return [...document.querySelectorAll(arguments[0])].find(e => e.innerText === 'Download PNG')", button)
    if not is_single:
        href = quiet.run("return document.querySelector(arguments[0]).getAttribute('href')", button)
        assert (run.folder / "site" / href).is_file(), "a plain link, which needs no script"
    quiet.run(
        "for (const e of document.querySelectorAll(arguments[0])) if (e.innerText === 'Download PNG') e.id = 'get'",
        button,
    )
    quiet.click("#get")
    saved, content = quiet.downloaded(is_asked=not is_single)
    assert saved == f"{layer['slug']}-6-k0.png"
    assert (np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) == run.tile(row)).all()


@pytest.mark.parametrize("width", [390, 768])
def test_no_page_scrolls_sideways_on_a_narrow_screen(firefox, run, tmp_path, width):
    """In a frame: a window of Firefox is at least 450 pixels wide."""
    for name, anchor, _ in PAGES:
        path, rest = address(run, name, anchor)
        (tmp_path / "frame.html").write_text(
            f'<!doctype html><title>frame</title><iframe width="{width}" height="800" style="border: 0" '
            f'src="{path.resolve().as_uri()}{rest.replace("&", "&amp;")}"></iframe>',
            "utf-8",
        )
        firefox.goto(tmp_path / "frame.html")
        firefox.enter("iframe")
        firefox.wait("return document.readyState === 'complete' && document.querySelector('h1')")
        assert firefox.run("return innerWidth") == width
        wide = firefox.run("const root = document.documentElement; return [root.scrollWidth, root.clientWidth]")
        assert wide[0] <= wide[1], f"{name}{anchor}"
