// The search field of every page: layers by name, channels by number, by class of the data, by words of the tuning, by
// what is odd of them; images and classes by name.
// Its index is read when the field is first used. Without script there is no field.
"use strict";

(() => {
  const form = document.querySelector(".search");
  if (!form) return;
  const field = form.querySelector("input");
  const panel = form.querySelector(".hits");
  const list = form.querySelector("[role=listbox]");
  const status = form.querySelector("[role=status]");
  const single = document.querySelector("main[data-prefix]") !== null;
  const MOST = 24; // results shown
  const PICTURED = 12; // of them with a picture: each may need another sheet
  let hits = [], active = -1, loading = null;

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  };

  function load() {
    loading ??= new Promise((resolve, reject) => {
      const block = document.querySelector('script[data-file="search.js"]');
      if (block) return resolve(JSON.parse(block.textContent)[1]);
      const before = globalThis.filterscope; // of the layer's own script, where there is one
      globalThis.filterscope = (kind, ...rest) => (kind === "search" ? resolve(rest[0]) : before?.(kind, ...rest));
      const script = make("script", { src: "assets/search.js" });
      script.addEventListener("error", reject);
      document.head.append(script);
    });
    return loading;
  }

  // How well a part of the query fits a text: 3 a whole word, 2 the beginning of one, 1 a part of three letters or more.
  function fit(text, part) {
    const at = text.indexOf(part);
    if (at < 0) return 0;
    const letter = (character) => character !== undefined && /[\p{L}\p{N}]/u.test(character);
    let best = part.length > 2 ? 1 : 0;
    for (let i = at; i >= 0; i = text.indexOf(part, i + 1)) {
      if (letter(text[i - 1])) continue;
      best = Math.max(best, letter(text[i + part.length]) ? 2 : 3);
    }
    return best;
  }

  const places = (layer) => (layer.channels ? layer.channels : Array.from({ length: layer.shown }, (_, channel) => channel));

  function matching(index, query) {
    const parts = query.toLowerCase().split(/\s+/).filter(Boolean).map((part) => ({
      part,
      range: /^(\d+)(?:-(\d+))?$/.exec(part)?.slice(1).map((end, i, [first]) => Number(end ?? first)),
    })).map((one) => ({ // a number is a channel's
      ...one,
      words: one.range ? [] : index.words.map((text) => fit(text.toLowerCase(), one.part)),
      names: one.range ? [] : index.names.map((text) => fit(text.toLowerCase(), one.part)),
      traits: one.range || one.part.length < 3 ? [] : index.traits.map(([, , also]) => fit(also, one.part)),
    }));
    const isOdd = parts.some(({ traits }) => traits.some((score) => score > 1));
    const results = index.targets.flatMap(([title, why, page, text]) => {
      // A list of all such channels stands before them, an image or a class behind.
      const scores = parts.map(({ part, range }) => (range ? 0 : fit(text.toLowerCase(), part)));
      return scores.every((score) => score > 0) ? [{ title, why, page, score: scores.reduce((a, b) => a + b, 0) * (page.startsWith("index") ? 3 : 1), number: -1 }] : [];
    });
    index.layers.forEach((layer, number) => {
      const name = layer.name.toLowerCase();
      const own = parts.map(({ part }) => (name === part ? 4 : fit(name, part)));
      const sum = own.reduce((a, b) => a + b, 0);
      if (own.every((score, i) => score && !parts[i].range)) return results.push({ layer, number, score: 100 + sum, place: layer.best, why: layer.index === undefined ? "not analysed in this run" : `${layer.shown.toLocaleString("en")} of ${layer.count.toLocaleString("en")} channels` });
      let isThere = false;
      places(layer).forEach((channel, index_) => {
        const score = ofChannel(index, layer, { channel, place: index_, parts, own });
        if (score) results.push({ layer, number, channel, place: index_, ...score });
        isThere ||= score !== null;
      });
      if (isOdd) {
        const shown = new Set(places(layer));
        for (const channel of traitsOf(layer).keys()) {
          const score = shown.has(channel) ? null : ofChannel(index, layer, { channel, parts, own });
          if (score) results.push({ layer, number, channel, ...score, score: score.score - 0.5, why: `${score.why}; ${single ? "not in this file" : "not analysed in this run"}` });
        }
      }
      const [a, b] = parts.find(({ range }) => range)?.range ?? [];
      if (!isThere && a !== undefined && a === b && a < layer.count && parts.length > 1 && parts.every(({ range }, i) => range || own[i] > 2)) {
        results.push({ layer, number, channel: a, score: 1, why: single ? "not in this file" : "not analysed in this run" });
      }
    });
    return results.sort((a, b) => b.score - a.score || a.number - b.number || (a.channel ?? 0) - (b.channel ?? 0));
  }

  // Channel → [trait, those that it is like]. Lists of a trait hold channels, or groups of channels that are alike.
  const odd = new Map();
  function traitsOf(layer) {
    if (!odd.has(layer)) {
      const of = new Map();
      const add = (channel, ...one) => of.set(channel, [...(of.get(channel) ?? []), one]);
      for (const [name, some] of Object.entries(layer.odd ?? {})) {
        for (const one of some) {
          if (Array.isArray(one)) one.forEach((channel) => add(channel, name, one.filter((other) => other !== channel)));
          else add(one, name, []);
        }
      }
      odd.set(layer, of);
    }
    return odd.get(layer);
  }

  function likes(others) {
    const few = others.slice(0, 4).join(", ");
    return others.length > 4 ? `${few} and ${others.length - 4} more` : few;
  }

  // How well a channel fits all parts of a query, and why; null where it does not, or where its layer alone does.
  function ofChannel(index, layer, { channel, place, parts, own }) {
    let total = 0, isOwn = false;
    const why = new Set();
    for (const [i, { range, words, names, traits }] of parts.entries()) {
      let best = own[i];
      const better = (score, reason) => { if (score > best) { best = score; isOwn = true; if (reason) why.add(reason); } };
      if (range && channel >= range[0] && channel <= range[1]) better(5, "");
      const word = layer.words?.[place] ?? -1;
      if (word >= 0 && words[word]) better(2 * words[word], index.words[word]);
      const classes = layer.classes?.[place] ?? [];
      for (let k = 0; k < classes.length; k += 2) {
        if (names[classes[k]]) better(2 * names[classes[k]] + classes[k + 1] / 1000, `${index.names[classes[k]]}, AUC ${(classes[k + 1] / 1000).toFixed(2)}`);
      }
      for (const [name, others] of layer.odd ? traitsOf(layer).get(channel) ?? [] : []) {
        const at = index.traits.findIndex(([one]) => one === name);
        if (traits[at] > 1) better(2 * traits[at], `${index.traits[at][1]}${others.length ? ` ${likes(others)}` : ""}`);
      }
      if (!best) return null;
      total += best;
    }
    return isOwn ? { score: total, why: [...why].join("; ") } : null;
  }

  function address({ layer, channel, page: other }) {
    if (other) return single ? `#${other.replace(".html", "").replace("#", ".")}` : other;
    const page = `layer-${layer.slug}`;
    if (single) return channel === undefined ? `#${page}` : `#${page}.${channel}`;
    return channel === undefined ? `${page}.html` : `${page}.html#${channel}`;
  }

  function picture({ layer, channel, place }) {
    const box = make("span", { class: "shot" });
    if (place === undefined || !layer.size || layer.unpictured.includes(channel ?? places(layer)[place])) return box;
    if (!single && !document.querySelector(`link[href="assets/${layer.slug}.css"]`)) {
      document.head.append(make("link", { rel: "stylesheet", href: `assets/${layer.slug}.css` }));
    }
    const space = `l${layer.index}-`;
    const sprite = make("span", { class: `pic k0 ${space}k0 ${space}s${Math.floor(place / layer.tiles)} ${space}t${place % layer.tiles}` });
    const [height, width] = layer.size, scale = 40 / Math.max(height, width);
    Object.assign(sprite.style, { width: `${width * scale}px`, height: `${height * scale}px` });
    box.append(sprite);
    return box;
  }

  function option(hit, rank) {
    const { layer, channel, why, title } = hit;
    const name = title ? make("bdi", {}, title) : make("bdi", {}, layer.name.length > 48 ? `${layer.name.slice(0, 23)}…${layer.name.slice(-24)}` : layer.name);
    return make("a", { class: "hit", role: "option", id: `hit-${rank}`, href: address(hit), tabindex: "-1", "aria-selected": "false" },
      layer && rank < PICTURED ? picture(hit) : make("span", { class: "shot" }),
      make("span", {}, make("b", {}, name, channel === undefined ? "" : `, channel ${channel}`), why ? make("bdi", { class: "why" }, why) : null));
  }

  function choose(rank) {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = rank;
    const chosen = list.children[rank];
    if (!chosen) return field.removeAttribute("aria-activedescendant");
    chosen.setAttribute("aria-selected", "true");
    chosen.scrollIntoView({ block: "nearest" });
    field.setAttribute("aria-activedescendant", chosen.id);
  }

  function open(isOpen) {
    panel.hidden = !isOpen;
    field.setAttribute("aria-expanded", isOpen && hits.length > 0);
    if (!isOpen) choose(-1);
  }

  async function show() {
    const query = field.value.trim();
    if (!query) return open(false);
    let index;
    try { index = await load(); } catch { index = null; }
    if (query !== field.value.trim()) return; // more was typed meanwhile
    hits = index ? matching(index, query) : [];
    list.replaceChildren(...hits.slice(0, MOST).map(option));
    list.hidden = !hits.length;
    status.textContent = !index ? "The index assets/search.js is missing: make the report again."
      : !hits.length ? `${reason(index, query) || `No layer, channel, image or class fits “${query}”. ${lacks(index)}Try the name of a layer, or a number.`}`
      : hits.every(({ layer }) => !layer) ? `${hits.length} found. ${lacks(index)}`
      : hits.length > MOST ? `${MOST} of ${hits.length.toLocaleString("en")}: add a word or a layer.` : `${hits.length} found`;
    choose(-1);
    open(true);
  }

  // Why a word finds no channel: no channel is so, or the run does not know; a number: of the channels that are there.
  function reason({ traits, lacks: why }, query) {
    if (/^\d+(-\d+)?$/.test(query)) return `No channel ${single ? "in this file" : "analysed in this run"} has the number ${query}. Add a layer’s name: its page says what would analyse it.`;
    const at = traits.findIndex(([, , also]) => query.length > 2 && fit(also, query.toLowerCase()) > 1);
    return at < 0 ? "" : why[traits[at][0]] ?? "";
  }

  const lacks = ({ words, lacks: why }) => [why.classes, words.length ? "" : "This run has no words of tuning to search by."].filter(Boolean).map((text) => `${text} `).join("");

  let waiting = 0;
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  field.addEventListener("focus", () => { load().catch(() => {}); show(); });
  field.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(show, 80); });
  field.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by && list.children.length) {
      const count = list.children.length;
      choose(active < 0 ? (by > 0 ? 0 : count - 1) : (active + by + count) % count);
      event.preventDefault();
    }
    if (event.key === "Enter") (list.children[Math.max(0, active)])?.click();
    if (event.key === "Escape" && !panel.hidden) { open(false); event.preventDefault(); event.stopPropagation(); }
  });
  list.addEventListener("click", () => { open(false); field.blur(); });
  form.addEventListener("focusout", (event) => { if (!form.contains(event.relatedTarget)) open(false); });
  panel.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus, so that a click counts
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.altKey || event.metaKey || event.target.matches?.("input, select, textarea")) return;
    event.preventDefault();
    field.focus();
  });
})();
