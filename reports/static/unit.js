// The view of one channel: everything the run knows of it, at the address of its tile.
"use strict";

(() => {
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
    element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  };
  const draw = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const facts = (pairs) =>
    make("dl", { class: "numbers" }, pairs.filter(([, value]) => value !== null).map(([name, value]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  const isOfNeuron = (kind) => kind.objective === "neuron"; // its numbers are of one place; others are means of the map
  const LOOK_ALIKE = 0.35; // median correlation of a layer's pictures above which that is a doubt
  const defined = (anchor, text, link) => make("a", { href: `${link("method.html")}${anchor}` }, text);

  function fit([height, width], target) {
    const side = Math.max(height, width);
    const factor = side <= target ? Math.floor(target / side) : target / side;
    return [Math.round(height * factor), Math.round(width * factor)];
  }

  // Classes of a picture in a layer's sheets; each style sheet has a prefix of its own (reports/site/pictures.py).
  const sprite = (letter, layer, index, tiles) =>
    `pic ${letter} l${layer}-${letter} l${layer}-s${Math.floor(index / tiles)} l${layer}-t${index % tiles}`;

  class View {
    constructor(grid) {
      Object.assign(this, { grid, page: grid.page, layer: grid.layer, slug: grid.slug });
      this.section = grid.page.querySelector(".view");
      this.whole = grid.page.querySelector(".whole");
      this.single = grid.page.dataset.prefix !== undefined;
      this.styled = new Set();
      this.scrolled = 0;
    }

    link(page) { // in a single file pages are sections
      return this.single ? `#${page.replace(".html", "")}${page === "method.html" ? "." : ""}` : page === "method.html" ? "method.html#" : page;
    }
    to(page, channel) { return this.single ? `#${page.replace(".html", "")}.${channel}` : `${page}#${channel}`; }
    address(channel) { return `#${this.grid.prefix}${channel}`; }

    async follow() {
      const hash = location.hash.slice(1);
      const inHere = hash.startsWith(this.grid.prefix) ? hash.slice(this.grid.prefix.length) : "";
      const channel = /^\d+$/.test(inHere) ? Number(inHere) : null;
      if (channel === null) return this.close();
      const index = this.grid.place.get(channel);
      this.channel = channel;
      if (index === undefined) return this.show(channel, this.absent(channel));
      const unit = (await part(this.slug, Math.floor(index / this.layer.chunk)))[index % this.layer.chunk];
      if (this.channel !== channel) return; // another was asked for meanwhile
      this.show(channel, this.build(unit, index));
    }

    show(channel, content) {
      if (this.section.hidden) this.scrolled = window.scrollY;
      this.section.replaceChildren(...content);
      this.section.hidden = false;
      this.whole.hidden = true;
      this.page.classList.add("opened");
      window.scrollTo(0, 0);
      this.section.querySelector("h2").focus({ preventScroll: true });
      document.title = document.title.replace(/^(channel \d+ of )?/, `channel ${channel} of `);
    }

    absent(channel) { // of a channel that the page does not have
      const [title, sentence, command] = absentChannel(this.page, channel);
      return [make("nav", { class: "steps", "aria-label": "Channels" }, make("a", { href: this.grid.address(), class: "all" }, "all channels")),
        make("header", { class: "of-unit" }, make("h2", { tabindex: "-1" }, title), make("p", { class: "lead" }, sentence)),
        command ? make("pre", { tabindex: "0" }, make("code", {}, command)) : null].filter(Boolean);
    }

    close() {
      if (this.section.hidden) return;
      this.section.hidden = true;
      this.whole.hidden = false;
      this.page.classList.remove("opened");
      document.title = document.title.replace(/^channel \d+ of /, "");
      window.scrollTo(0, this.scrolled);
      this.grid.page.querySelector(`[id="${this.grid.prefix}${this.channel}"]`)?.focus({ preventScroll: true });
      this.channel = null;
    }

    step(by) {
      const order = this.grid.shown.includes(this.channel) ? this.grid.shown : this.layer.channels;
      return order[order.indexOf(this.channel) + by];
    }

    picture(letter, index, size, target, label, free = false) {
      const [height, width] = free ? size.map((side) => (side * target) / Math.max(...size)) : fit(size, target);
      const element = make("span", { class: sprite(letter, this.layer.index, index, this.layer.tiles) });
      if (label) { element.setAttribute("role", "img"); element.setAttribute("aria-label", label); }
      element.style.width = `${width}px`;
      element.style.height = `${height}px`;
      return element;
    }

    build(unit, index) {
      const { layer } = this;
      const status = layer.status[index].split(" ").filter((word) => word && word !== "ok");
      const head = make("header", { class: "of-unit" }, this.steps(unit),
        make("h2", { tabindex: "-1" }, `Channel ${unit.c}`, ...status.map((word) => make("span", { class: `badge is-${word}` }, word))),
        ...this.answer(unit), this.double(unit));
      const examples = this.examples(unit, index), onImages = this.onImages(unit, index);
      return [
        head,
        make("div", { class: "halves" }, this.pictures(unit, index), examples ?? onImages),
        this.numbers(unit),
        examples ? onImages : null,
        make("div", { class: "columns" }, this.listens(unit), this.feeds(unit), this.alike(unit), this.histogram(unit), this.tuning(unit, index), this.truth(unit), this.weights(unit, index), this.byFormula(unit, index)),
        this.again(unit),
      ].filter(Boolean);
    }

    // What the channel responds to, and how sure one can be: reports/site/answer.py makes the sentences.
    answer(unit) {
      const [lead, level, reasons] = unit.a;
      const doubt = this.layer.likeness > LOOK_ALIKE ? ` Pictures of this layer look alike: their median correlation is ${figure(this.layer.likeness)}.` : "";
      const levels = ["well supported", "partly supported", "weakly supported"];
      const shown = doubt ? levels[Math.min(2, levels.indexOf(level) + 1)] : level;
      return [make("p", { class: "lead" }, lead),
        level || reasons ? make("p", { class: "sure" }, level ? make("strong", {}, "Its picture is ", defined("sure", shown, this.link.bind(this)), ". ") : null, `${reasons}${doubt}`) : null];
    }

    steps(unit) {
      const before = this.step(-1), after = this.step(1);
      return make("nav", { class: "steps", "aria-label": "Channels" },
        make("a", { href: this.grid.address(), class: "all" }, "all channels"),
        before === undefined ? null : make("a", { href: this.address(before), rel: "prev", "aria-label": `Previous: channel ${before}` }, `← ${before}`),
        after === undefined ? null : make("a", { href: this.address(after), rel: "next", "aria-label": `Next: channel ${after}` }, `${after} →`),
        this.copy("Copy link"), this.download(unit));
    }

    download(unit) {
      const kind = this.layer.kinds.findIndex((_, position) => unit.p?.[position]?.[6]);
      if (kind < 0) return null;
      const name = `${this.slug}-${unit.c}-k${kind}.png`;
      if (this.page.dataset.png !== undefined && !this.single) return make("a", { href: `png/${name}`, download: "", class: "button" }, "Download PNG");
      const button = make("button", { type: "button" }, "Download PNG");
      button.addEventListener("click", () => this.cut(unit, kind, name).catch(() => {
        button.replaceWith(make("span", { class: "quiet" }, "The browser does not let a page opened from a disk save its pictures. This command writes each as a file: ", make("code", {}, this.page.dataset.pngs ?? "")));
      }));
      return button;
    }

    async cut(unit, kind, name) { // where the browser lets a page read its own pictures
      const index = this.grid.place.get(unit.c);
      const sample = this.section.querySelector(`.pic.k${kind}`);
      const style = getComputedStyle(sample);
      const image = new Image();
      image.src = /url\("(.*)"\)/.exec(style.backgroundImage)[1];
      await image.decode();
      const [height, width] = this.layer.kinds[kind].size;
      const columns = Math.round(image.naturalWidth / width);
      const tile = index % this.layer.tiles;
      const canvas = make("canvas", { width, height });
      canvas.getContext("2d").drawImage(image, -(tile % columns) * width, -Math.floor(tile / columns) * height);
      const blob = await new Promise((resolve, reject) => canvas.toBlob((found) => (found ? resolve(found) : reject(new Error("empty")))));
      const address = URL.createObjectURL(blob);
      make("a", { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
    }

    pictures(unit, index) {
      const { layer } = this;
      const shown = layer.kinds.map((kind, position) => {
        const row = unit.p?.[position];
        if (!row || kind.diverse || this.isOfOwnInput(kind)) return null;
        const [activation, , , , , status, pictured, first, image, highest] = row;
        const label = `${kind.title} picture of channel ${unit.c}: ${isOfNeuron(kind) ? "its neuron" : "mean of the map"} ${figure(activation)}`;
        return make("figure", { class: `${position ? "lesser" : "main"} is-${status}` },
          pictured ? this.tile(kind.letter, index, kind.size, label) : make("span", { class: "pic blank" }, "no picture"),
          make("figcaption", {}, make("b", {}, defined(kind.anchor, kind.title, this.link.bind(this))), make("span", { class: "value" }, `${isOfNeuron(kind) ? "place" : "mean"} ${figure(activation)}${highest === undefined ? "" : `, highest ${figure(highest)}`}`),
            status === "ok" ? null : make("span", { class: `badge is-${status}` }, status), first ? this.first() : null, image === undefined || image === null ? null : this.photo(image)));
      });
      if (unit.d) shown.splice(1, 0, ...this.diverse(unit, index)); // beside the channel's own
      const content = shown.some(Boolean) ? make("div", { class: "tiles" }, shown) : make("p", {}, "No picture of this channel is made yet: the same command goes on with it.");
      return make("section", { class: "maximised", "aria-label": "Maximised" }, make("h3", {}, "What raises it most"), make("p", { class: "quiet" }, "Made by maximising it. A mean is over its whole map there; the highest, and a place, are of one neuron, as the numbers of the data are."), content);
    }

    isOfOwnInput(kind) { return kind.space === "input"; }

    // A picture as wide as its cell.
    tile(letter, index, [height, width], label) {
      const element = make("span", { class: `${sprite(letter, this.layer.index, index, this.layer.tiles)} fills`, role: "img", "aria-label": label });
      element.style.aspectRatio = `${width} / ${height}`;
      return element;
    }

    // All numbers of its pictures by name, and those of the data set that stand nowhere else.
    numbers(unit) {
      const rows = this.layer.kinds.map((kind, position) => [this.asMade(position, unit.p?.[position]?.[7]), unit.p?.[position]]).filter(([kind, row]) => row && !this.isOfOwnInput(kind));
      if (!rows.length) return null;
      const says = ([activation, , , bound, kind]) => bound !== null && (kind === "exact" || (activation > 0 && bound > 0 && activation * 3 >= bound));
      const columns = [
        ["activation", "activation", ([activation]) => figure(activation)],
        ["robust", "robust activation", ([activation, robust], kind) => (robust === null || !kind.shift ? "–" : `${figure(robust)}${activation > 0 ? ` (${percent(Math.max(0, robust / activation))})` : ""}`)],
        ["random", "best random", ([, , random]) => figure(random)],
        ...(rows.some(([, row]) => says(row)) ? [["bound", "at most", (row) => (says(row) ? figure(row[3]) : "–")]] : []),
      ];
      return make("details", { class: "all-numbers" }, make("summary", {}, "All numbers"), make("div", { class: "wide" }, make("table", { class: "paths" },
        make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "picture"), columns.map(([anchor, name]) => make("th", { scope: "col" }, defined(anchor, name, this.link.bind(this)))))),
        make("tbody", {}, rows.map(([kind, row]) => make("tr", {}, make("th", { scope: "row" }, kind.title), columns.map(([, , text]) => make("td", {}, text(row, kind))))))), this.measured(unit)));
    }

    // What the data set says of it in one number each.
    measured(unit) {
      const [, , , , , , , , , , , , selectivity] = unit.s ?? [];
      if (selectivity === null || selectivity === undefined) return null;
      return facts([[defined("selectivity", "class selectivity", this.link.bind(this)), figure(selectivity)]]);
    }

    // The pattern in the layer's own input that is best by formula, as the layer's page calls it; where the layer sees the image it stands above.
    byFormula(unit, index) {
      const position = this.layer.kinds.findIndex((kind) => this.isOfOwnInput(kind));
      const row = unit.p?.[position];
      if (!row?.[6]) return null;
      const kind = this.layer.kinds[position];
      return make("section", {}, make("h3", {}, defined(kind.anchor, kind.title, this.link.bind(this))),
        make("p", { class: "quiet" }, "In the layer’s own input: a patch for each of its channels, white for high, black for low."),
        this.picture(kind.letter, index, kind.size, 200, `${kind.title} picture of channel ${unit.c}`));
    }

    // A kind with the size and the shift of one of its pictures: first ones may be smaller.
    asMade(position, first) {
      const kind = this.layer.kinds[position];
      return first ? { ...kind, pixels: first.slice(0, 2), shift: first[2] } : kind;
    }

    first() { return make("span", { class: "badge is-first" }, "first picture, a finer one follows"); }

    // The pictures of the objective diversity: one of them where all show the same.
    diverse(unit, index) {
      const { layer } = this;
      const all = unit.p.filter((row, position) => layer.kinds[position].diverse && row?.[6]).length;
      const isOne = unit.d.length < all;
      return unit.d.map((position, number) => {
        const kind = layer.kinds[position];
        const [activation, , , , , status, , first] = unit.p[position];
        const title = isOne ? `Diversity: ${all === 4 ? "four" : all} ascents, one picture` : `Diversity ${number + 1}`;
        return make("figure", { class: `is-${status}` },
          this.tile(kind.letter, index, kind.size, `${title}, of channel ${unit.c}: mean of the map ${figure(activation)}`),
          make("figcaption", {}, make("b", {}, defined("diversity", title, this.link.bind(this))), make("span", { class: "value" }, `mean ${figure(activation)}`), status === "ok" ? null : make("span", { class: `badge is-${status}` }, status), first ? this.first() : null));
      });
    }

    examples(unit, index) {
      if (!unit.e?.length || !store.examples) return null;
      const { names, size } = store.examples;
      const side = innerWidth < 560 ? Math.floor((innerWidth - 60) / 3) : 180; // three in a row
      const [height, width] = fit(size, side);
      const highest = unit.e[0][1];
      const lit = unit.e.filter((example, rank) => example[6] && rank < this.layer.heats).length;
      const shown = unit.e.map((example, rank) => {
        const cut = patch(example, side);
        if (!cut) return null;
        const [number, activation, top, left, fieldHeight, fieldWidth, heat] = example;
        const close = make("span", { class: `pic e e-e e-s${cut.sheet}${cut.hard ? " hard" : ""}` });
        Object.assign(close.style, { width: `${cut.width}px`, height: `${cut.height}px`, backgroundSize: cut.size, backgroundPosition: `${cut.x}px ${cut.y}px` });
        const photo = make("span", { class: `pic e e-e e-s${cut.sheet} e-t${cut.tile}` });
        const map = heat && rank < this.layer.heats ? make("span", { class: `${sprite("h", this.layer.index, index, this.layer.tiles)} l${this.layer.index}-j${rank}` }) : null;
        const all = heatmaps.over(photo, map, heatmaps.rescaling([0, activation], highest > 0 ? [0, highest] : null));
        Object.assign(all.style, { width: `${width}px`, height: `${height}px` });
        if (!map && top <= 0 && left <= 0 && top + fieldHeight >= size[0] && left + fieldWidth >= size[1]) all.classList.add("same");
        const box = make("span", { class: "field" });
        const percentOf = (value, whole) => `${(100 * value) / whole}%`;
        const y0 = Math.max(0, top), x0 = Math.max(0, left);
        Object.assign(box.style, { top: percentOf(y0, size[0]), left: percentOf(x0, size[1]), height: percentOf(Math.min(size[0], top + fieldHeight) - y0, size[0]), width: percentOf(Math.min(size[1], left + fieldWidth) - x0, size[1]) });
        all.append(box);
        const [name, label] = names[number] ?? ["", null];
        const text = label ? `${label}` : name;
        const seen = [Math.min(size[0], top + fieldHeight) - y0, Math.min(size[1], left + fieldWidth) - x0].join("\u00a0×\u00a0");
        const large = `What the neuron sees, ${seen} pixels, and the whole image with that field framed${map ? ", under the channel's map" : ""}.`;
        return make("figure", {}, make("div", { class: "twin", role: "img", "data-large": large, "aria-label": `${rank + 1}. ${name}${label ? `, ${label}` : ""}: activation ${figure(activation)}` }, close, all),
          make("figcaption", {}, make("b", {}, figure(activation)), make("bdi", { title: name }, text)));
      });
      return make("section", { "aria-label": "Strongest on the data" }, make("h3", {}, defined("examples", "Strongest on the data", this.link.bind(this))),
        make("p", { class: "quiet" }, `What the neuron sees, and in the corner the whole image with that field framed. ${this.litSentence(lit, unit.e.length)}The number is the activation at that one place.`),
        lit && highest > 0 ? heatmaps.key([0, highest], [0, null]) : null, make("div", { class: "patches" }, shown));
    }

    litSentence(lit, all) {
      if (!lit) return "";
      if (lit === all) return `Over ${all > 1 ? "each" : "that"} image lies the channel's map. `;
      return `Over the ${lit > 1 ? `${["two", "three"][lit - 2] ?? lit} strongest` : "strongest"} lies the channel's map. `;
    }

    photos() { return [...this.page.querySelectorAll(".on-image .hide")].map((element) => element.textContent); }

    // The name of one of the user's images, with a way to its page where it has one.
    photo(image) {
      const name = this.photos()[image];
      return name === undefined ? `image ${image + 1}` : make("a", { href: this.link(`image-${image}.html`) }, make("bdi", {}, name));
    }

    onImages(unit, index) {
      if (!unit.m?.length) return null;
      const facts = unit.m.map((fact, image) => ({ fact, image })).filter((one) => one.fact);
      if (!facts.length) return null;
      facts.sort((a, b) => b.fact[1] - a.fact[1]);
      const photos = this.photos();
      const scale = heatmaps.shared(facts.map((one) => one.fact), this.layer.relu);
      const shown = facts.map(({ fact, image }) => {
        const [low, high, , , mean] = fact;
        const name = photos[image] ?? `image ${image + 1}`;
        const map = this.layer.maps ? make("span", { class: `${sprite("m", this.layer.index, index, this.layer.tiles)} images-i${image}` }) : null;
        const over = heatmaps.over(make("span", { class: `thumb images-i${image}` }), map, heatmaps.rescaling(fact, scale));
        over.setAttribute("role", "img");
        over.setAttribute("aria-label", `Map of channel ${unit.c} on ${name}: ${figure(low)} to ${figure(high)}`);
        return make("figure", { class: "map" }, over, make("figcaption", {}, make("span", {}, "highest ", make("b", {}, figure(high))), mean === undefined ? null : make("span", {}, "mean ", make("b", {}, figure(mean))), make("a", { href: this.link(`image-${image}.html`) }, make("bdi", {}, name))));
      });
      const g = unit.g;
      const further = g && g[0] >= Number(this.page.dataset.images) ? [` Highest of all is ${figure(g[1])}, on `, make("bdi", {}, g[4] ?? `image ${g[0] + 1}`), ", of which no map is kept."] : [];
      const dark = this.layer.relu && facts.every((one) => one.fact[1] <= 0) ? " It is above 0 on none of them." : "";
      return make("section", { "aria-label": "On your images" }, make("h3", {}, defined("maps", "On your images", this.link.bind(this))),
        make("p", { class: "quiet" }, `The image on which it fires most comes first. The mean is over all places of the map, as the mean of a channel picture is.${dark}`, ...further),
        this.layer.maps ? heatmaps.key(scale, null) : null, make("div", { class: "row maps" }, shown));
    }

    histogram(unit) {
      if (!unit.s) return null;
      const [low, mean, high, active, activeImages, , , firsts, dead, start, end, bins] = unit.s;
      const width = 300, height = 90;
      const svg = draw("svg", { viewBox: `0 0 ${width} ${height + 16}`, role: "img", "aria-label": `Histogram from ${figure(start)} to ${figure(end)}, mean ${figure(mean)}`, class: "histogram" });
      bins.forEach((count, bin) => {
        const tall = Math.sqrt(count / 1000) * height;
        const middle = start + ((bin + 0.5) / bins.length) * (end - start);
        if (count) svg.append(draw("rect", { x: (bin * width) / bins.length, y: height - tall, width: width / bins.length - 0.6, height: tall, class: middle > 0 ? "above" : "below" }));
      });
      if (start < 0 && end > 0) svg.append(draw("path", { d: `M${(-start / (end - start)) * width} 0V${height}`, class: "zero" }));
      const left = draw("text", { x: 0, y: height + 13 }); left.append(figure(start));
      const right = draw("text", { x: width, y: height + 13, class: "last" }); right.append(figure(end));
      svg.append(left, right);
      return make("section", {}, make("h3", {}, defined("active", "On the whole data set", this.link.bind(this))), svg,
        facts([["active places", percent(active)], ["images with an active place", percent(activeImages)], ["mean of all places", figure(mean)], ["highest place", figure(high)], ["lowest place", figure(low)], ["strongest channel in", firsts ? `${firsts} image${firsts === 1 ? "" : "s"}` : null], ["silent on the data", dead ? "yes" : null]]));
    }

    style(name) { // style sheet of another layer, whose pictures this page is about to show
      if (this.single || this.styled.has(name) || name === this.slug) return;
      this.styled.add(name);
      document.head.append(make("link", { rel: "stylesheet", href: `assets/${name}.css` }));
    }

    // A list of other units, each with what share of a kernel it is, and whether it raises or lowers.
    kin(items, name) {
      return make("ol", { class: items.some(({ thumb }) => thumb) ? "listens" : "listens is-plain" }, items.map(({ thumb, text, share, norm }) => {
        const sign = share === undefined ? null : make("b", { class: share < 0 ? "lowers" : "raises", role: "img", "aria-label": share < 0 ? "lowers" : "raises" }, share < 0 ? "−" : "+");
        const bar = make("meter", { min: 0, max: 1, value: Math.abs(share ?? norm), "aria-label": name });
        return make("li", {}, make("span", { class: "nopic" }, thumb), sign ?? make("b", {}), text, bar, make("span", { class: "value" }, share === undefined ? figure(norm) : percent(Math.abs(share))));
      }));
    }

    // Another layer's unit: its small picture, and its name with a link, as far as there are any.
    other(number, channel) {
      const name = make("span", {}, make("bdi", {}, this.layer.names[number]), ` ${channel}`);
      const way = store.ways?.[this.layer.names[number]];
      if (!way) return { thumb: null, text: name };
      const position = way.channels ? way.channels.indexOf(channel) : channel;
      if (position < 0) return { thumb: null, text: name };
      let thumb = null;
      if (way.size && !way.unpictured.includes(channel)) {
        this.style(way.slug);
        const [height, width] = fit(way.size, 56);
        thumb = make("span", { class: sprite("k0", way.index, position, way.tiles) });
        Object.assign(thumb.style, { width: `${width}px`, height: `${height}px` });
      }
      return { thumb, text: make("a", { href: this.to(way.page, channel) }, name) };
    }

    listens(unit) {
      if (!unit.w?.[2].length) return null;
      const [norm, , inputs, norms, sources, channels, , , , shares] = unit.w;
      const items = inputs.map((input, rank) => ({
        ...(sources[rank] === null ? { thumb: null, text: make("span", {}, this.layer.inputs?.[input] ?? `input ${input}`) } : this.other(sources[rank], channels[rank])),
        share: shares?.[rank], norm: norm ? norms[rank] / norm : 0,
      }));
      return make("section", {}, make("h3", {}, defined("listens", "Listens to", this.link.bind(this))), this.kin(items, "share of its kernel"));
    }

    feeds(unit) {
      const [layers, channels, shares] = unit.w?.slice(10) ?? [];
      if (!layers?.length) return null;
      const items = layers.map((number, rank) => ({ ...this.other(number, channels[rank]), share: shares[rank] }));
      return make("section", {}, make("h3", {}, defined("feeds", "Feeds", this.link.bind(this))), this.kin(items, "share of their kernel"));
    }

    weights(unit, index) {
      const size = this.layer.sizes.w;
      if (!unit.w) return null;
      const [norm, bias, , , , , , , pictured] = unit.w;
      return make("section", {}, make("h3", {}, defined("weights", "Weights", this.link.bind(this))),
        pictured && size ? this.picture("w", index, size, 160, `Kernel of channel ${unit.c}`) : null,
        facts([["norm", figure(norm)], ["bias", bias === null ? null : figure(bias)]]));
    }

    alike(unit) {
      const near = this.nearest(unit);
      if (!near.length) return null;
      const [limit] = this.layer.double;
      const kind = this.layer.kinds[0];
      const shown = near.map(([channel, value, what]) => {
        const place = this.grid.place.get(channel);
        const inner = [place === undefined || !kind || !kind.pictured || this.layer.unpictured.includes(channel) ? null : this.picture(kind.letter, place, kind.size, 72), make("b", {}, String(channel)), make("span", { class: "value" }, `${what} ${figure(value)}`)];
        return place === undefined ? make("span", { class: "map" }, inner) : make("a", { class: "map", href: this.address(channel), "aria-label": `Channel ${channel}, ${what} ${figure(value)}` }, inner);
      });
      return make("section", {}, make("h3", {}, defined(unit.w ? "alike" : "active", "Most alike", this.link.bind(this))), make("div", { class: "row maps" }, shown),
        this.doubles(unit).length ? null : make("p", { class: "quiet" }, "No channel of this layer is its ", defined("double", "double", this.link.bind(this)), `: none of them is nearer than that, and a double has a ${this.measures(near)} above ${limit}.`));
    }

    // The channels most like one: [channel, how like, by what], by kernels and then on the data.
    nearest(unit) {
      const near = unit.w ? unit.w[6].map((channel, rank) => [channel, unit.w[7][rank], "cosine"]) : [];
      if (unit.s && unit.s[5] !== null) near.push([unit.s[5], unit.s[6], "correlation"]);
      return near;
    }

    measures(near) { return [...new Set(near.map(([, , what]) => what))].join(" or "); }

    doubles(unit) {
      const [limit, comparesKernels] = this.layer.double;
      return this.nearest(unit).filter(([, value, what]) => value > limit && (what !== "cosine" || comparesKernels));
    }

    // Which channels do the same as this one: by its weights, and by its answers to the data.
    double(unit) {
      const all = this.doubles(unit);
      if (!all.length) return null;
      const sentence = (what, start) => {
        const some = all.filter(([, , by]) => by === what);
        if (!some.length) return [];
        const links = some.flatMap(([channel, value], rank) => [rank ? ", " : "", this.grid.place.has(channel) ? make("a", { href: this.address(channel) }, `channel ${channel}`) : `channel ${channel}`, ` (${what} ${figure(value)})`]);
        return [start, ...links, ". "];
      };
      return make("p", { class: "sure doubled" }, make("strong", {}, defined("double", "Double", this.link.bind(this)), ". "),
        ...sentence("cosine", "Its weights double those of "), ...sentence("correlation", "On the data it does the same as "));
    }

    curve(values, label, unitText) {
      const top = Math.max(...values, 1e-9), low = Math.min(...values, 0);
      const points = values.map((value, i) => `${(i / Math.max(1, values.length - 1)) * 136 + 2} ${50 - ((value - low) / (top - low || 1)) * 46}`);
      return make("figure", { class: "curve" }, draw("svg", { viewBox: "0 0 140 54", role: "img", "aria-label": `${label}, highest ${figure(top)}` }, draw("path", { d: `M${points.join("L")}` })), make("figcaption", {}, label, make("span", { class: "quiet" }, ` ${unitText}`)));
    }

    tuning(unit, index) {
      if (!unit.t) return null;
      const [, best, response, orientation, selectivity, period, modulation, hue, colour, orientations, periods, sizes, hues, pictured] = unit.t;
      const size = this.layer.sizes.b;
      return make("section", {}, make("h3", {}, defined("tuning", "Tuning", this.link.bind(this))),
        pictured && size ? this.picture("b", index, size, 120, `Best stimulus: ${best ?? "none"}`) : null,
        facts([["best stimulus", best ?? "–"], ["above grey", figure(response)], ["orientation", orientation === null ? null : `${Math.round(orientation)}°`], ["orientation selectivity", selectivity === null ? null : figure(selectivity)], ["period", period === null ? null : `${figure(period)} px`], ["F1 ÷ F0", modulation === null ? null : figure(modulation)], ["hue", hue === null ? null : `${Math.round(hue)}°`], ["colour selectivity", colour === null ? null : figure(colour)]]),
        make("div", { class: "row" }, orientations.length ? this.curve(orientations, "orientation", "0–180°") : null, periods.length ? this.curve(periods, "period", `${figure(sizes[0])}–${figure(sizes.at(-1))} px`) : null, hues.length ? this.curve(hues, "hue", "0–360°") : null));
    }

    truth(unit) {
      if (!unit.r && !unit.q) return null;
      const rows = (unit.r || []).map(([objective, maximised, natural, ratio]) => [objective === "neuron" ? "highest place" : "mean of the map", `${figure(maximised)} against ${figure(natural)}${ratio === null ? "" : `: ×${figure(ratio)}`}`]);
      const paths = (unit.q || []).map(([through, maximised, natural, random]) =>
        make("tr", {}, make("th", { scope: "row" }, make("bdi", {}, this.layer.names[through])), ...[maximised, natural, random].map((value) => make("td", {}, figure(value)))));
      return make("section", {}, make("h3", {}, defined("truth", "Maximised against natural", this.link.bind(this))), facts(rows),
        paths.length ? make("table", { class: "paths" }, make("caption", {}, "Similarity of activations in earlier layers"), make("thead", {}, make("tr", {}, ...["earlier layer", "maximised and natural", "natural and natural", "random and natural"].map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, paths)) : null);
    }

    // The command that makes this page again. Channels that climb together round alike, so it names them all.
    again(unit) {
      const { command } = this.page.dataset;
      const isRun = !/^filterscope maximize /.test(command); // which makes a picture alone
      const beside = isRun ? Object.entries(this.layer.together).find(([, channels]) => channels.includes(unit.c))?.[0] : undefined;
      const whole = `${command}${beside ?? unit.c}`;
      const alone = beside ? ["It names the channels that climbed together: with them beside it, its picture is the same to the bit. Quicker, and perhaps with other roundings: ", make("code", {}, `${command.trim().split(" ").at(-1)} ${unit.c}`), " alone."] : [];
      return make("section", { "aria-label": "Make it again" }, make("h3", {}, "Make it again"),
        make("div", { class: "command" }, make("pre", { tabindex: "0" }, make("code", {}, whole)), this.copy("Copy command", whole)),
        isRun ? make("p", { class: "quiet" }, this.page.dataset.relative === undefined ? "The same data, options and seed, in a new folder. " : "The same data, options and seed. It names files as the run’s own command did: run it where that was run. ", ...alone) : null);
    }

    // A button that copies a text, or shows it to be copied by hand.
    copy(title, text) {
      const button = make("button", { type: "button" }, title);
      button.addEventListener("click", async () => {
        const whole = text ?? location.href;
        try { await navigator.clipboard.writeText(whole); button.textContent = "Copied"; }
        catch { button.replaceWith(make("input", { readonly: "", value: whole, "aria-label": title })); }
        setTimeout(() => { button.textContent = title; }, 1500);
      });
      return button;
    }
  }

  const views = [];
  const begun = new Set();
  function begin(page) { // in a single file a layer's numbers are read when it is first looked at
    if (begun.has(page)) return;
    begun.add(page);
    const grid = startGrid(page);
    if (grid) views.push(new View(grid));
  }
  function follow() {
    for (const page of document.querySelectorAll(".layer-page")) {
      const here = location.hash.slice(1);
      if (page.dataset.prefix === undefined || here === page.id || here.startsWith(page.dataset.prefix)) begin(page);
    }
    for (const view of views) view.follow();
  }
  // On paper nothing is folded: what was opened for it is closed behind it.
  function unfold(isPaper) {
    for (const one of document.querySelectorAll(isPaper ? ".view details:not([open])" : ".view details.on-paper")) {
      one.open = isPaper;
      one.classList.toggle("on-paper", isPaper);
    }
  }
  addEventListener("beforeprint", () => unfold(true));
  addEventListener("afterprint", () => unfold(false));
  matchMedia("print").addEventListener("change", (event) => unfold(event.matches));

  const typing = (target) => target.matches?.("input, select, textarea");
  function start() {
    addEventListener("hashchange", follow);
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
      const view = views.find((one) => !one.section.hidden);
      if (!view) return;
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) {
        const next = view.step(by);
        if (next !== undefined) {
          view.channel = next; // a second key may come before the page follows
          location.hash = view.address(next);
          event.preventDefault();
        }
      }
      if (event.key === "Escape") location.hash = view.grid.address();
    });
    follow();
  }
  start(); // after the layer's numbers: scripts run in the order of the page
})();
