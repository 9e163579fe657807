"""A site as one HTML file: pages become sections, pictures and scripts stand inside.

Works on what a site has written, whose markup is our own: no names of models are parsed as markup, since templates
have escaped them. Knows HTML and sizes; knows nothing of runs.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from filterscope.converters.errors import RunError
from filterscope.reports.page.folder import write_whole

LIMIT = 20_000_000  # bytes of the file
IMAGES = 12
SPARE = 0.95  # share of the limit that a smaller excerpt aims at
SCRIPTS = ("layer.js", "maps.js", "unit.js", "enlarge.js", "graph.js", "image.js", "data.js", "find.js")
TYPES = {"webp": "image/webp", "svg": "image/svg+xml", "png": "image/png"}

FEW_CHANNELS, FEW_IMAGES = 4, 6  # a layer, and of the user: below them other things are left out first
PATCHES, FEW_PATCHES = 9, 4  # strongest places of the data set a channel
TRIES = 16

Contents = dict[str, bytes]  # file of a site → what is in it


@dataclass(frozen=True, slots=True)
class Excerpt:
    """How much of a site goes into one file."""

    channels: int  # a layer
    images: int = IMAGES
    examples: bool = True  # whether pictures of the data set do
    thrifty: bool = False  # whether photos, maps on images' pages and pictures of the data set are small
    patches: int = PATCHES  # strongest places of the data set a channel

    def smaller(self, share: float) -> Excerpt | None:
        """What to try next; None where nothing can be left out.

        What nobody misses goes first: the fineness of photos and maps, then all but a few patches. Then channels, then
        images, then the pictures of the data set: a few channels with them say more than many without.

        Args:
            share: of its size that it may have.
        """
        fewer = max(1, min(self.channels - 1, int(self.channels * share)))
        if not self.thrifty:
            return replace(self, thrifty=True)
        if self.examples and self.patches > FEW_PATCHES:
            return replace(self, patches=FEW_PATCHES)
        if self.channels > FEW_CHANNELS:
            return replace(self, channels=max(FEW_CHANNELS, fewer))
        if self.images > FEW_IMAGES:
            return replace(self, images=max(FEW_IMAGES, min(self.images - 1, int(self.images * share))))
        if self.examples:
            return replace(self, examples=False)
        if self.channels > 1:
            return replace(self, channels=fewer)
        return replace(self, images=self.images - 1) if self.images > 1 else None


def fitted(make: Callable[[Excerpt], Contents], first: Excerpt, limit: int = LIMIT) -> bytes:
    """The largest excerpt of a site that fits.

    Args:
        make: renders a site in memory.
        first: to begin with; where it does not fit, smaller ones are tried.
        limit: bytes.

    Raises:
        RunError: even one channel per layer is too large.
    """
    excerpt: Excerpt | None = first
    for _ in range(TRIES):
        if excerpt is None:
            break
        page = bundled(make(excerpt))
        if len(page) <= limit:
            return page
        excerpt = excerpt.smaller(SPARE * limit / len(page))
    raise RunError(f"one file of {limit // 10**6} MB does not hold this network; send the folder instead")


def write(file: Path, page: bytes) -> None:
    """Write the file.

    Raises:
        RunError: it cannot be written.
    """
    write_whole(file, page)


def bundled(files: Contents) -> bytes:
    """All pages of a site in one."""
    pages = {name: files[name].decode() for name in files if name.endswith(".html")}
    order = ["index.html", *sorted(set(pages) - {"index.html"}, key=_natural)]
    style = "\n".join(_styles(files))
    code = "\n".join(files[f"assets/{name}"].decode() for name in SCRIPTS)
    shell = pages["index.html"]
    data = [
        f'<script type="application/json" data-file="{name[7:]}">{_as_list(files[name].decode())}</script>'
        for name in sorted(files, key=_natural)
        if name.startswith("assets/") and name.endswith(".js") and name[7:] not in SCRIPTS
    ]
    sections = "\n".join(_section(name, pages[name], files) for name in order)
    policy = (
        "default-src 'none'; img-src data: blob:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(code)}'; base-uri 'none'; form-action 'none'"
    )
    head = shell[: shell.index('<link rel="icon"')]
    head = re.sub(r'(http-equiv="Content-Security-Policy" content=")[^"]*', lambda m: m[1] + policy, head)
    icon = f'<link rel="icon" href="{_data("icon.svg", files["assets/icon.svg"])}" type="image/svg+xml">'
    masthead = _links(shell[shell.index("<body>") : shell.index('<main id="main"')])
    footer = _links(shell[shell.index("</main>") + 7 :])
    footer = re.sub(r" Numbers for scripts: .*?</a>\.", "", footer)
    parts = [
        *(f"{head}{icon}", f"<style>{style}</style>", "</head>"),
        *(masthead, f'<div id="main">{sections}</div>', "\n".join(data)),
        footer.replace("</body>", f"<script>{code}</script>\n</body>"),
    ]
    return "\n".join(parts).encode()


def _section(name: str, page: str, files: Contents) -> str:
    """A page's main part as a section of its own, its ids made unique by the page's name."""
    stem = name.removesuffix(".html")
    main = page[page.index('<main id="main"') : page.index("</main>")]
    main = main.replace('<main id="main"', f'<main id="{stem}" data-prefix="{stem}."', 1)
    main = re.sub(r'class="', 'class="page ', main, count=1)
    opening, inner = main[: main.index(">") + 1], main[main.index(">") + 1 :]
    inner = re.sub(r'(\s(?:id|for|aria-labelledby)=")([^"]+)', lambda m: f"{m[1]}{stem}.{m[2]}", inner)
    inner = re.sub(r'(\shref="#)([^"]+)', lambda m: f"{m[1]}{stem}.{m[2]}", inner)
    inner = re.sub(
        r'(\s(?:src|href)=")assets/([^"]+\.webp)', lambda m: m[1] + _data(m[2], files[f"assets/{m[2]}"]), inner
    )
    return f"{opening}{_links(inner)}</main>"


def _links(markup: str) -> str:
    """Links to pages become links to sections."""

    def section(link: re.Match[str]) -> str:
        return f"{link[1]}#{link[2]}{'.' + link[3][1:] if link[3] else ''}"

    return re.sub(r'(\shref=")([a-zA-Z0-9-]+)\.html(#[^"]*)?', section, markup)


def _styles(files: Contents) -> Iterator[str]:
    yield files["assets/site.css"].decode()
    for name in sorted(files, key=_natural):
        if name.endswith(".css") and name != "assets/site.css":
            yield re.sub(
                r"url\(([^)]+)\)",
                lambda m: f"url({_data(m[1], files[f'assets/{m[1]}'])})",
                _once(files[name].decode()),
            )
    yield ".page:not(:target,:has(:target)){display:none}"
    yield "#main:not(:has(:target)) .page:first-child{display:block}"
    yield "#main:has(>.chosen)>.page:not(.chosen){display:none}"  # by script, where an address is no element's
    yield "#main>.page.chosen{display:block}"


def _once(style: str) -> str:
    """A style sheet in which rules that show one picture are one rule, since it stands in the file itself.

    They set nothing but the picture, and no rule of the same weight takes it away: their order does not matter.
    """
    selectors: dict[str, list[str]] = {}
    rest = []
    for line in style.splitlines():
        rule = re.fullmatch(r"([^{}]+)(\{background-image:url\([^()]+\)\})", line)
        if rule:
            selectors.setdefault(rule[2], []).append(rule[1])
        else:
            rest.append(line)
    return "\n".join([*rest, *(",".join(of) + picture for picture, of in selectors.items())])


def _as_list(call: str) -> str:
    """The values in a data file, as a JSON list."""
    return f"[{call.strip().removeprefix('filterscope(').removesuffix(');')}]"


def _data(name: str, content: bytes) -> str:
    return f"data:{TYPES[name.rpartition('.')[2]]};base64,{base64.b64encode(content).decode()}"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
