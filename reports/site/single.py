"""A site as one HTML file: pages become sections, pictures and scripts stand inside.

Works on what a site has written, whose markup is our own: no names of models are parsed as markup, since templates
have escaped them. Knows HTML and sizes; knows nothing of runs.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from filterscope.converters.errors import RunError
from filterscope.reports.page.folder import write_whole

LIMIT = 20_000_000  # bytes of the file
IMAGES = 12
SCRIPTS = ("layer.js", "maps.js", "unit.js", "enlarge.js", "graph.js", "image.js", "data.js", "find.js")
TYPES = {"webp": "image/webp", "svg": "image/svg+xml", "png": "image/png"}

Contents = dict[str, bytes]  # file of a site → what is in it
Make = Callable[[int, int, bool], Contents]  # channels a layer, images, whether examples → a site's files


def fitted(make: Make, first: int, examples: bool, limit: int = LIMIT) -> bytes:
    """The largest excerpt of a site that fits.

    Args:
        make: renders a site in memory.
        first: channels a layer to begin with; where they do not fit, fewer are tried.
        examples: whether there are pictures of a data set, which are left out before channels are.
        limit: bytes.

    Raises:
        RunError: even one channel per layer is too large.
    """
    channels, images = first, IMAGES
    for _ in range(12):
        page = bundled(make(channels, images, examples))
        if len(page) <= limit:
            return page
        share = 0.9 * limit / len(page)
        if examples and share < 0.5:
            examples = False
        elif channels > 1:
            channels = max(1, min(channels - 1, int(channels * share)))
        elif images > 1:
            images -= 1
        elif examples:
            examples = False
        else:
            break
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
                r"url\(([^)]+)\)", lambda m: f"url({_data(m[1], files[f'assets/{m[1]}'])})", files[name].decode()
            )
    yield ".page:not(:target,:has(:target)){display:none}"
    yield "#main:not(:has(:target)) .page:first-child{display:block}"
    yield "#main:has(>.chosen)>.page:not(.chosen){display:none}"  # by script, where an address is no element's
    yield "#main>.page.chosen{display:block}"


def _as_list(call: str) -> str:
    """The values in a data file, as a JSON list."""
    return f"[{call.strip().removeprefix('filterscope(').removesuffix(');')}]"


def _data(name: str, content: bytes) -> str:
    return f"data:{TYPES[name.rpartition('.')[2]]};base64,{base64.b64encode(content).decode()}"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
