// The grid of a layer: orders, filters and searches its channels, and shows their strongest patches.
// Without it the page still shows every picture and number.
"use strict";

// Data files call filterscope(kind, …); in a single file they stand in the page as JSON.
const store = { layers: new Map(), units: new Map(), examples: null, waiting: new Map() };
function filterscope(kind, ...rest) {
  if (kind === "layer") store.layers.set(rest[0], rest[1]);
  if (kind === "examples") store.examples = rest[0];
  if (kind === "units") {
    const [slug, part, units] = rest;
    store.units.set(`${slug}/${part}`, units);
    store.waiting.get(`${slug}/${part}`)?.(units);
  }
}
const inside = (name) => {
  const block = document.querySelector(`script[data-file="${name}"]`);
  if (!block) return false;
  filterscope(...JSON.parse(block.textContent));
  return true;
};

// One part of a layer's details, loaded when it is first wanted.
function part(slug, number) {
  const key = `${slug}/${number}`;
  if (!store.units.has(key)) inside(`${slug}-u${number}.js`);
  if (store.units.has(key)) return Promise.resolve(store.units.get(key));
  return new Promise((resolve, reject) => {
    const others = store.waiting.get(key);
    store.waiting.set(key, (units) => { others?.(units); resolve(units); });
    if (others) return;
    const script = document.createElement("script");
    script.src = `assets/${slug}-u${number}.js`;
    script.addEventListener("error", () => reject(new Error(`${script.src} is missing`)));
    document.head.append(script);
  });
}

// How much of an example a neuron sees, as style for a box of `side` pixels; parts outside the picture are left out.
function patch(example, side) {
  const { size, shown, columns, rows, places } = store.examples;
  const [number, , top, left, height, width] = example;
  const place = places[number];
  if (place === undefined) return null;
  const y0 = Math.max(0, top), x0 = Math.max(0, left);
  const y1 = Math.min(size[0], top + height), x1 = Math.min(size[1], left + width);
  if (y1 <= y0 || x1 <= x0) return null;
  const scale = side / Math.max(y1 - y0, x1 - x0);
  const tile = place % (columns * rows);
  return {
    sheet: Math.floor(place / (columns * rows)),
    tile,
    width: (x1 - x0) * scale,
    height: (y1 - y0) * scale,
    size: `${columns * size[1] * scale}px ${rows * size[0] * scale}px`,
    x: -((tile % columns) * size[1] + x0) * scale,
    y: -(Math.floor(tile / columns) * size[0] + y0) * scale,
    hard: scale * (size[0] / shown[0]) > 2.5,
  };
}

function startGrid(page) {
  const slug = page.dataset.slug;
  if (!store.layers.has(slug)) inside(`${slug}.js`);
  if (page.dataset.examples !== undefined && !store.examples) inside("examples.js");
  const layer = store.layers.get(slug);
  if (!layer) return null;
  const list = page.querySelector(".units");
  const form = page.querySelector(".controls");
  const tiles = [...list.children];
  const place = new Map(layer.channels.map((channel, index) => [channel, index]));
  const prefix = page.dataset.prefix ?? "";
  let shown = layer.channels;

  for (const control of form.querySelectorAll(".scripted")) control.hidden = false;

  const mode = () => form.querySelector("input[name=show]:checked")?.value ?? "k0";

  function keys(by) {
    const table = layer.order[by];
    if (!table) return null;
    const kind = /^k(\d+)$/.exec(mode());
    const ofDiverse = mode() === "d" && table[layer.kinds.length]; // behind those of the kinds
    return Array.isArray(table[0]) ? ofDiverse || table[kind ? Number(kind[1]) : 0] : table;
  }

  function wanted(text) {
    const range = /^\s*(\d+)\s*(?:-\s*(\d+))?\s*$/.exec(text);
    if (range) return (channel) => channel >= Number(range[1]) && channel <= Number(range[2] ?? range[1]);
    const word = text.trim().toLowerCase();
    return (channel, index) => !word || (layer.order.words?.[index] ?? "").toLowerCase().includes(word);
  }

  function arrange() {
    const by = form.elements.order.value;
    const status = form.elements.status.value;
    const fits = wanted(form.elements.find.value);
    const order = layer.channels.map((_, index) => index);
    const values = by === "channel" ? null : keys(by);
    if (values) order.sort((a, b) => (values[b] ?? -Infinity) - (values[a] ?? -Infinity) || a - b || 0);
    const kept = order.filter((index) => {
      const has = status === "unseen" ? layer.order.unseen?.[index] : layer.status[index].split(" ").includes(status);
      return (!status || has) && fits(layer.channels[index], index);
    });
    const visible = new Set(kept);
    for (const index of order) {
      tiles[index].hidden = !visible.has(index);
      list.append(tiles[index]);
    }
    shown = kept.map((index) => layer.channels[index]);
    form.querySelector(".shown").textContent =
      kept.length < order.length ? `${kept.length.toLocaleString("en")} of ${order.length.toLocaleString("en")}` : "";
  }

  let patched = false;
  function showPatches() {
    if (patched || mode() !== "e" || !store.examples || !layer.first) return;
    patched = true;
    layer.first.forEach((example, index) => {
      const tile = tiles[index].firstElementChild;
      const cut = example && patch(example, 112);
      if (!cut) return tile.classList.add("xe");
      tile.classList.add(`e-s${cut.sheet}`);
      tile.dataset.e = figure(example[1]);
      const told = { w: `${cut.width}px`, h: `${cut.height}px`, s: cut.size, x: `${cut.x}px`, y: `${cut.y}px` };
      for (const [name, value] of Object.entries(told)) tile.style.setProperty(`--e${name}`, value);
      if (cut.hard) tile.classList.add("hard");
    });
  }

  let waiting = 0;
  form.addEventListener("input", (event) => {
    if (event.target.name !== "find") return;
    clearTimeout(waiting);
    waiting = setTimeout(arrange, 120);
  });
  form.addEventListener("change", (event) => {
    if (event.target.name !== "show" || form.elements.order.value !== "channel") arrange();
    showPatches();
    heatmaps.rescale(grid);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  const grid = { page, slug, layer, prefix, place, tiles, mode, get shown() { return shown; } };
  showPatches();
  heatmaps.add(grid);
  return grid;
}

// A number with three digits, as words.figure writes it.
function figure(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const [mantissa, exponent] = Math.abs(value).toExponential(2).split("e");
  const power = Number(exponent);
  const sign = value < 0 ? "−" : "";
  if (power >= -3 && power < 5) {
    const digits = Math.max(0, 2 - power);
    const number = Number(`${mantissa}e${exponent}`);
    return sign + number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }
  return `${sign}${mantissa}·10${String(power).replace(/[-\d]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)])}`;
}

function percent(share) {
  if (share === null || share === undefined) return "–";
  if (share > 0 && share < 0.01) return "under 1 %";
  if (share >= 0.995 && share < 1) return `${(Math.floor(share * 1000) / 10).toFixed(1)} %`;
  return `${Math.round(share * 100)} %`;
}
