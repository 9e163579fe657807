// The grid of a layer: orders, filters and searches its channels, folds those that are alike, and shows their strongest
// patches. What is chosen stands in the address. Without it the page still shows every picture and number.
"use strict";

// Data files call filterscope(kind, …); in a single file they stand in the page as JSON.
const store = { layers: new Map(), units: new Map(), examples: null, ways: null, waiting: new Map() };
function filterscope(kind, ...rest) {
  if (kind === "layer") store.layers.set(rest[0], rest[1]);
  if (kind === "examples") store.examples = rest[0];
  if (kind === "ways") store.ways = rest[0]; // layer → where its channels' pictures are
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
  if (!store.ways) inside("ways.js");
  const layer = store.layers.get(slug);
  if (!layer) return null;
  const list = page.querySelector(".units");
  const form = page.querySelector(".controls");
  const prefix = page.dataset.prefix ?? "";
  const place = new Map(layer.channels.map((channel, index) => [channel, index]));
  const tiles = [];
  const ranked = [...list.children].filter((tile) => tile.firstElementChild).map((tile) => {
    const index = place.get(Number(tile.firstElementChild.id.slice(prefix.length)));
    tiles[index] = tile;
    return index;
  }); // the order of the page itself
  const standard = form.elements.order.value;
  const twins = new Map((layer.groups ?? []).flatMap((group, number) => group.map((index) => [index, number])));
  const opened = new Set(); // groups of look-alikes
  let shown = layer.channels;

  for (const control of form.querySelectorAll(".scripted")) control.hidden = false;

  const mode = () => form.querySelector("input[name=show]:checked")?.value ?? "k0";
  const text = () => form.elements.find.value.trim();

  function keys(by) {
    const table = layer.order[by];
    if (!table) return null;
    const kind = /^k(\d+)$/.exec(mode());
    const ofDiverse = mode() === "d" && table[layer.kinds.length]; // behind those of the kinds
    return Array.isArray(table[0]) ? ofDiverse || table[kind ? Number(kind[1]) : 0] : table;
  }

  function wanted(search) {
    const range = /^(\d+)\s*(?:-\s*(\d+))?$/.exec(search);
    if (range) return (channel) => channel >= Number(range[1]) && channel <= Number(range[2] ?? range[1]);
    const parts = search.toLowerCase().split(/\s+/);
    const { words, classes, names } = layer.order;
    return (channel, index) => {
      const all = [words?.[index] ?? "", ...(classes?.[index] ?? []).map((name) => names[name])].join("\n").toLowerCase();
      return parts.every((part) => all.includes(part));
    };
  }

  function ordered(by) {
    if (by === standard && !(by === "lift" && /^k[1-9]/.test(mode()))) return ranked;
    const order = layer.channels.map((_, index) => index);
    const values = by === "channel" ? null : keys(by);
    return values ? order.sort((a, b) => (values[b] ?? -Infinity) - (values[a] ?? -Infinity) || a - b || 0) : order;
  }

  // The number that each tile is ordered by, with what it is; in the page's own order it stands there already.
  const BY = {
    activation: (value) => `activation ${figure(value)}`,
    lift: (value, isLow) => `${figure(value)} ${isLow ? "below" : "above"} random`,
    share: (value) => `${percent(value)} of bound`,
    active: (value) => `${percent(value)} active`,
    alike: (value) => `similarity ${figure(value)}`,
    selectivity: (value) => `selectivity ${figure(value)}`,
  };
  const ownNumbers = tiles.map((tile) => tile.querySelector("small")?.textContent ?? "");
  let numbered = standard;
  function number(by, isOwn) {
    const state = isOwn ? standard : `${by} ${mode()}`;
    if (state === numbered) return;
    numbered = state;
    const values = isOwn || !BY[by] ? null : keys(by);
    const isLow = layer.kinds[Number(/^k(\d+)$/.exec(mode())?.[1] ?? 0)]?.objective === "negative";
    tiles.forEach((tile, index) => {
      const text = isOwn ? ownNumbers[index] : values ? BY[by](values[index], isLow) : "";
      let small = tile.querySelector("small");
      if (!small && text) tile.firstElementChild.append(small = document.createElement("small"));
      if (small && small.textContent !== text) small.textContent = text;
    });
  }

  // The channels of `kept` with look-alikes behind the first of them, which stands for them where they are folded.
  function grouped(kept) {
    const behind = new Map();
    for (const index of kept) {
      const group = twins.get(index);
      if (group !== undefined) behind.set(group, [...(behind.get(group) ?? []), index]);
    }
    return kept.flatMap((index) => {
      const [first, ...others] = behind.get(twins.get(index)) ?? [index];
      if (first !== index) return [];
      return [{ index, others, isFirst: true }, ...others.map((other) => ({ index: other, others: [], isFirst: false }))];
    });
  }

  function arrange() {
    const by = form.elements.order.value;
    const only = form.elements.only.value;
    const fits = wanted(text());
    const order = ordered(by);
    const kept = order.filter((index) => {
      const has = only === "unseen" ? layer.order.unseen?.[index] : only === "twins" ? twins.has(index) : layer.status[index].split(" ").includes(only);
      return (!only || has) && fits(layer.channels[index], index);
    });
    const folds = by !== "alike" && only !== "twins" && !text() && twins.size > 0;
    const groups = folds ? grouped(kept) : kept.map((index) => ({ index, others: [], isFirst: true }));
    const rest = new Set(tiles);
    const buttons = new Set();
    for (const { index, others, isFirst } of groups) {
      const tile = tiles[index];
      const isOpen = folds && opened.has(twins.get(index));
      rest.delete(tile);
      look(tile, isFirst || isOpen, isOpen);
      if (others.length) buttons.add(unfold(index, others));
    }
    for (const tile of rest) look(tile, false, false);
    for (const button of unfolding.values()) if (!buttons.has(button)) button.remove();
    const sequence = [...groups.map(({ index }) => tiles[index]), ...rest];
    if (sequence.some((tile, at) => tile !== list.children[at])) list.replaceChildren(...sequence);
    shown = groups.map(({ index }) => layer.channels[index]);
    form.querySelector(".shown").textContent =
      kept.length < order.length ? `${kept.length.toLocaleString("en")} of ${order.length.toLocaleString("en")}` : "";
    number(by, order === ranked);
    const note = page.querySelector(".in-order");
    if (note) note.hidden = by !== standard;
  }

  // A change of the page costs much where there are 2,000 tiles: what is as it was is left alone.
  function look(tile, isShown, isInGroup) {
    if (tile.hidden === isShown) tile.hidden = !isShown;
    if (tile.classList.contains("of-group") !== isInGroup) tile.classList.toggle("of-group", isInGroup);
  }

  const unfolding = new Map(); // group → the button on its first tile
  function unfold(index, others) {
    const group = twins.get(index);
    let button = unfolding.get(group);
    if (!button) {
      button = document.createElement("button");
      button.type = "button";
      button.className = "alike";
      button.addEventListener("click", () => {
        opened.has(group) ? opened.delete(group) : opened.add(group);
        arrange();
      });
      unfolding.set(group, button);
    }
    const text = opened.has(group) ? "fold" : `+${others.length} alike`;
    const label = `${others.length} alike channel ${layer.channels[index]}: ${others.map((other) => layer.channels[other]).join(", ")}`;
    if (button.textContent !== text) button.textContent = text;
    for (const [name, value] of [["aria-expanded", String(opened.has(group))], ["aria-label", label]]) {
      if (button.getAttribute(name) !== value) button.setAttribute(name, value);
    }
    if (button.parentElement !== tiles[index]) tiles[index].append(button);
    return button;
  }

  // What is chosen, as the address holds it: order=active&only=dead&find=dog&show=w, without what is as usual.
  const usual = { order: standard, only: "", show: mode() };
  function chosen() {
    const state = new URLSearchParams();
    for (const [name, value] of Object.entries({ order: form.elements.order.value, only: form.elements.only.value, show: mode() })) {
      if (value !== usual[name]) state.set(name, value);
    }
    if (text()) state.set("find", text());
    return state.toString();
  }
  const address = () => (chosen() ? `#${prefix}${chosen()}` : prefix ? `#${page.id}` : "#units");

  function remember(typing) {
    if (here() === chosen()) return;
    const state = chosen();
    const replaces = typing && /(^|&)find=/.test(state) && /(^|&)find=/.test(here() ?? "");
    history[replaces ? "replaceState" : "pushState"](null, "", state ? `#${prefix}${state}` : prefix ? `#${page.id}` : "#");
    mark();
  }

  // What the address says of this page, as it stands there; null where it is another page's.
  function here() {
    const hash = location.hash.slice(1);
    if (!prefix) return hash;
    return hash === page.id ? "" : hash.startsWith(prefix) ? hash.slice(prefix.length) : null;
  }

  function mark() { // in a single file a page is shown where the address is an element's; others are shown by this
    if (prefix) page.classList.toggle("chosen", here() !== null && !document.getElementById(location.hash.slice(1)));
  }

  function restore() { // true where it changed what is chosen
    mark();
    const hash = here();
    if (hash === null || (hash && !/^(order|only|find|show)=/.test(hash))) return false; // a channel, or a heading
    const state = new URLSearchParams(hash);
    if (chosen() === state.toString()) return false;
    for (const name of ["order", "only"]) {
      const select = form.elements[name];
      const value = state.get(name);
      select.value = [...select.options].some((option) => option.value === value) ? value : usual[name];
    }
    form.elements.find.value = state.get("find") ?? "";
    const radio = [...form.querySelectorAll("input[name=show]")].find((one) => one.value === (state.get("show") ?? usual.show));
    if (radio) radio.checked = true;
    arrange();
    showPatches();
    return true;
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
    waiting = setTimeout(() => { arrange(); remember(true); }, 120);
  });
  form.addEventListener("change", (event) => {
    if (event.target.name === "find") return;
    if (event.target.name !== "show" || form.elements.order.value !== "channel") arrange();
    showPatches();
    remember(false);
    heatmaps.rescale(grid);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", restore);
  if (!restore() && twins.size) arrange();
  const grid = { page, slug, layer, prefix, place, tiles, address, mode, get shown() { return shown; } };
  showPatches();
  heatmaps.add(grid);
  return grid;
}

// What is said of a channel that the page does not have: [heading, sentence, command or nothing].
function absentChannel(page, channel) {
  const { name, slug, count, command, excerpt } = page.dataset;
  if (channel >= Number(count)) return [`No channel ${channel}`, Number(count) === 1 ? `${name} has channel 0 alone.` : `${name} has channels 0 to ${Number(count) - 1}.`, ""];
  const left = document.querySelector(`script[data-file="${slug}-left.js"]`);
  const [, , texts, places] = left ? JSON.parse(left.textContent) : [null, null, [], {}];
  const lead = texts[places[channel]];
  if (excerpt !== undefined && lead) return [`Channel ${channel}`, `${lead} This file is an excerpt of the report, without its pictures and numbers. This command analyses it:`, `${command}${channel}`];
  return [`Channel ${channel}`, `Channel ${channel} was not analysed in this run. This command analyses it:`, `${command}${channel}`];
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
