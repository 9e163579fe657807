// Maps over photos: the scale that they share, how they are drawn, and the reader's choice of both.
// Their colours come from the filter "heat" in the page (reports/page/heat.py does the same without script).
"use strict";

const heatmaps = (() => {
  const KEY = "filterscope.maps";
  const CHOICES = { common: "scale", own: "scale", smooth: "grain", pixels: "grain" };
  const state = { scale: "common", grain: "smooth" };
  const grids = [];
  let isChosen = false;

  function element(tag, className, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children.filter(Boolean));
    return made;
  }

  // The scale of several maps [lowest, highest, …] of a channel: below 0 a ReLU lets nothing pass, so there it begins at 0.
  function shared(facts, isRectified) {
    const whole = facts.filter((fact) => fact && fact[0] !== null && fact[1] !== null);
    if (!whole.length) return null;
    const low = isRectified ? 0 : Math.min(...whole.map((fact) => fact[0]));
    let high = Math.max(...whole.map((fact) => fact[1]));
    if (isRectified && high <= 0) high = 1; // nothing is lit, whatever the scale
    return low < high ? [low, high] : null;
  }

  // CSS filter functions that take a map from its own scale to a shared one; neither cuts off what the result would hold.
  function rescaling([low, high], scale) {
    if (!scale || low === null || high === null) return "";
    const slope = (high - low) / (scale[1] - scale[0]), start = (low - scale[0]) / (scale[1] - scale[0]);
    const digits = (value) => Number(value.toPrecision(4));
    if (start < 0) return `brightness(${digits(slope / (1 - 2 * start))}) contrast(${digits(1 - 2 * start)})`;
    const bright = slope + 2 * start;
    return `contrast(${bright ? digits(slope / bright) : 1}) brightness(${digits(bright)})`;
  }

  function over(photo, map, filter) {
    map?.classList.add("map-heat");
    if (filter) map?.style.setProperty("--scale", filter);
    return element("span", "overlay", photo, map);
  }

  function button(word, text) {
    const made = element("button", "", text);
    made.type = "button";
    made.dataset.maps = word;
    made.setAttribute("aria-pressed", String(state[CHOICES[word]] === word));
    return made;
  }
  function group(label, ...buttons) {
    const made = element("span", "", ...buttons);
    made.setAttribute("role", "group");
    made.setAttribute("aria-label", label);
    return made;
  }
  const number = (value) => (value === null ? null : figure(value));

  // The colours with their numbers on either scale, and the switches; an end that each map has for itself is null.
  function key(common, own) {
    const ends = (name, low, high) => element("span", `heat-ends ${name}`, element("span", "", low), element("span", "heat-bar"), element("span", "", high));
    const [low, high] = own ?? [null, null];
    return element("div", "heat-key",
      common ? ends("if-common", common[0] === 0 ? "0 or below" : number(common[0]), number(common[1])) : null,
      ends(common ? "unless-common" : "", number(low) ?? "its own lowest", number(high) ?? "its own highest"),
      element("span", "heat-switches",
        common ? group("Scale of maps", button("common", "common scale"), button("own", "own scale")) : null,
        group("Drawing of small pictures", button("smooth", "smooth"), button("pixels", "pixels"))));
  }

  // Tiles far from the screen are drawn without colours: filters of thousands would slow the scrolling down.
  function watch(grid) {
    if (grid.watched || typeof IntersectionObserver === "undefined") return;
    grid.watched = true;
    grid.page.querySelector(".units").classList.add("watched");
    const observer = new IntersectionObserver((changes) => { for (const { target, isIntersecting } of changes) target.classList.toggle("near", isIntersecting); }, { rootMargin: "600px" });
    for (const tile of grid.tiles) observer.observe(tile);
  }

  // The grid of a layer: each tile gets the scale that its channel's maps share, as soon as the numbers are there.
  async function rescale(grid) {
    const image = /^m(\d+)$/.exec(grid.mode())?.[1];
    if (image === undefined) return;
    watch(grid);
    if (state.scale !== "common" || grid.scaled === image) return;
    grid.scaled = image;
    const { layer, slug, tiles } = grid;
    const parts = await Promise.all(Array.from({ length: Math.ceil(tiles.length / layer.chunk) }, (_, number) => part(slug, number)));
    if (grid.scaled !== image) return; // another image was chosen meanwhile
    parts.flat().forEach((unit, index) => {
      const fact = unit.m?.[image];
      const filter = fact ? rescaling(fact, shared(unit.m, layer.relu)) : "";
      tiles[index].firstElementChild.style.setProperty("--scale", filter || "brightness(1)");
    });
  }
  function add(grid) {
    grids.push(grid);
    rescale(grid);
  }

  // What the reader chose, on every page: storage, and where a browser has one for each file, the address of links.
  const words = () => `${state.scale} ${state.grain}`;
  function take(text) {
    for (const word of (text ?? "").split(/[ +]/)) if (CHOICES[word]) { state[CHOICES[word]] = word; isChosen = true; }
  }
  function remember() {
    isChosen = true;
    try { localStorage.setItem(KEY, words()); } catch { /* no storage: links carry it */ }
  }
  function recall() {
    const carried = new URLSearchParams(location.search).get("maps");
    try { take(carried ?? localStorage.getItem(KEY)); } catch { take(carried); }
    if (carried === null) return;
    remember();
    try { history.replaceState(null, "", location.pathname + location.hash); } catch { /* it stays in the address */ }
  }
  function apply() {
    const root = document.documentElement;
    root.classList.toggle("common-scale", state.scale === "common");
    root.classList.toggle("own-scale", state.scale === "own");
    root.classList.toggle("map-pixels", state.grain === "pixels");
    for (const one of document.querySelectorAll("[data-maps]")) one.setAttribute("aria-pressed", String(state[CHOICES[one.dataset.maps]] === one.dataset.maps));
    for (const grid of grids) rescale(grid);
  }
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest?.("[data-maps]");
    if (chosen) {
      state[CHOICES[chosen.dataset.maps]] = chosen.dataset.maps;
      remember();
      apply();
    }
    const link = event.target.closest?.("a[href]");
    if (link && isChosen && location.protocol === "file:" && link.protocol === "file:" && link.pathname !== location.pathname && /\.html$/.test(link.pathname)) link.search = `?maps=${words().replace(" ", "+")}`;
  }, true);
  addEventListener("pageshow", (event) => { if (event.persisted) { recall(); apply(); } });
  recall();
  apply();
  for (const switches of document.querySelectorAll(".heat-switches.scripted")) switches.hidden = false;
  return { shared, rescaling, over, key, add, rescale };
})();
