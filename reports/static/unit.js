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
      const hash = decodeURIComponent(location.hash.slice(1));
      const inHere = hash.startsWith(this.grid.prefix) ? hash.slice(this.grid.prefix.length) : "";
      const channel = /^\d+$/.test(inHere) ? Number(inHere) : null;
      if (channel === null || !this.grid.place.has(channel)) return this.close();
      if (this.section.hidden) this.scrolled = window.scrollY;
      const index = this.grid.place.get(channel);
      this.channel = channel;
      const unit = (await part(this.slug, Math.floor(index / this.layer.chunk)))[index % this.layer.chunk];
      if (this.channel !== channel) return; // another was asked for meanwhile
      this.section.replaceChildren(...this.build(unit, index));
      this.section.hidden = false;
      this.whole.hidden = true;
      this.page.classList.add("opened");
      window.scrollTo(0, 0);
      this.section.querySelector("h2").focus({ preventScroll: true });
      document.title = document.title.replace(/^(channel \d+ of )?/, `channel ${channel} of `);
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
      const words = unit.t?.[0];
      const head = make("header", { class: "of-unit" }, this.steps(unit),
        make("h2", { tabindex: "-1" }, `Channel ${unit.c}`, ...status.map((word) => make("span", { class: `badge is-${word}` }, word))),
        words ? make("p", { class: "lead" }, `${words[0].toUpperCase()}${words.slice(1)}.`) : null,
        make("p", { class: "sure" }, ...this.sure(unit)));
      return [
        head,
        this.pictures(unit, index),
        this.examples(unit, index),
        this.onImages(unit, index),
        make("div", { class: "columns" }, this.histogram(unit), this.weights(unit, index), this.alike(unit), this.tuning(unit, index), this.truth(unit)),
        this.again(unit),
      ].filter(Boolean);
    }

    steps(unit) {
      const before = this.step(-1), after = this.step(1);
      const copy = make("button", { type: "button" }, "Copy link");
      copy.addEventListener("click", async () => {
        const url = location.href;
        try { await navigator.clipboard.writeText(url); copy.textContent = "Copied"; }
        catch { copy.replaceWith(make("input", { readonly: "", value: url, "aria-label": "Address of this channel" })); }
        setTimeout(() => { copy.textContent = "Copy link"; }, 1500);
      });
      return make("nav", { class: "steps", "aria-label": "Channels" },
        make("a", { href: this.single ? this.link(`layer-${this.slug}.html`) : "#units", class: "all" }, "all channels"),
        before === undefined ? null : make("a", { href: this.address(before), rel: "prev", "aria-label": `Previous: channel ${before}` }, `← ${before}`),
        after === undefined ? null : make("a", { href: this.address(after), rel: "next", "aria-label": `Next: channel ${after}` }, `${after} →`),
        copy, this.download(unit));
    }

    download(unit) {
      const kind = this.layer.kinds.findIndex((_, position) => unit.p?.[position]?.[6]);
      if (kind < 0) return null;
      const name = `${this.slug}-${unit.c}-k${kind}.png`;
      if (this.page.dataset.png !== undefined && !this.single) return make("a", { href: `png/${name}`, download: "", class: "button" }, "Download PNG");
      const button = make("button", { type: "button" }, "Download PNG");
      button.addEventListener("click", () => this.cut(unit, kind, name).catch(() => {
        button.replaceWith(make("span", { class: "quiet" }, "The browser does not let a page opened from a disk save its pictures. Make the report again with the setting ", make("code", {}, "png"), ", which writes each of them as a file."));
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

    // How sure one can be, in a few sentences.
    sure(unit) {
      const rows = unit.p || [];
      const known = rows.some((row) => row && row[0] !== null) ? rows.findIndex((row) => row && row[0] !== null) : rows.findIndex((row) => row && row[5] === "diverged");
      if (known < 0) return [];
      const [activation, robust, random, bound, boundKind, status, , first] = unit.p[known];
      const kind = this.asMade(known, first);
      const told = [`${kind.title} picture: ${isOfNeuron(kind) ? "its neuron gives" : "the mean of the map is"} ${activation === null ? "no finite number" : figure(activation)}`];
      if (random !== null) told.push(activation > random && random > 0 ? `, ${figure(activation / random)} times the best of 16 random images (${figure(random)})` : `; the best of 16 random images reaches ${figure(random)}`);
      told.push(".");
      if (robust !== null && kind.shift) {
        const shifted = ` Shifted by up to ${kind.shift} pixel${kind.shift === 1 ? "" : "s"}`;
        told.push(activation > 0 ? `${shifted}, the picture keeps ${percent(robust / activation)} of that.` : `${shifted}: ${figure(robust)}.`);
      }
      if (bound !== null) {
        const size = kind.pixels ? `${kind.pixels[0]}\u00a0×\u00a0${kind.pixels[1]} ` : "";
        if (boundKind === "exact") told.push(` The best picture raises this neuron to ${figure(bound)}.`);
        else {
          told.push(isOfNeuron(kind) ? ` No picture can raise this neuron above ${figure(bound)}` : ` No ${size}picture can raise the mean above ${figure(bound)}`);
          told.push(activation !== null && activation >= 0 && bound > 0 ? `: this one reaches ${percent(activation / bound)} of that.` : ".");
        }
      }
      if (status === "unraised") told.push(" It does not beat random images, so it says nothing about what the channel responds to.");
      if (status === "constant") told.push(" Every measurement gave this one number: as far as observed, the channel does not depend on the image.");
      if (status === "dead") told.push(" Proven: no image makes the activation positive, so the ReLU behind it always answers 0.");
      if (status === "diverged") told.push(random === null ? " What the network answers to random images is no finite number either: there is no result." : " The optimisation ended in infinite or undefined numbers: there is no result.");
      const natural = unit.r?.find((row) => row[3] !== null);
      if (natural) told.push(natural[0] === "neuron" ? ` The highest activation on its pictures is ${figure(natural[3])} times the highest on natural images.` : ` The mean is ${figure(natural[3])} times that of the strongest cut of a natural image.`);
      return told;
    }

    pictures(unit, index) {
      const { layer } = this;
      const found = layer.kinds.map((_, position) => {
        const row = unit.p?.[position];
        if (!row || layer.kinds[position].diverse) return null;
        const [activation, robust, random, bound, boundKind, status, pictured, first, image] = row;
        const kind = this.asMade(position, first);
        const target = position ? 200 : 320;
        const share = bound > 0 && activation >= 0 && activation !== null ? activation / bound : null;
        return make("figure", { class: `${position ? "lesser" : "main"} is-${status}` },
          pictured ? this.picture(kind.letter, index, kind.size, target, `${kind.title} picture of channel ${unit.c}: ${isOfNeuron(kind) ? "this neuron" : "mean of the map"} ${figure(activation)}`) : make("span", { class: "pic blank" }, "no picture"),
          make("figcaption", {}, make("b", {}, defined(kind.anchor, kind.title, this.link.bind(this))), status === "ok" ? null : make("span", { class: `badge is-${status}` }, status), first ? this.first() : null,
            facts([[isOfNeuron(kind) ? "this neuron" : "mean of the map", figure(activation)], ["after jitter", robust === null || !kind.shift ? null : figure(robust)], ["best random", random === null ? null : figure(random)],
              [`${isOfNeuron(kind) ? "neuron" : "mean"}, ${boundKind === "exact" ? "exact best" : "at most"}`, bound === null ? null : figure(bound)], ["reached", share === null ? null : percent(share)], ["begun at", image === undefined ? null : this.photo(image)]])));
      });
      if (unit.d) found.splice(1, 0, this.diverse(unit, index)); // beside the channel's own
      const content = found.some(Boolean) ? make("div", { class: "row" }, found) : make("p", {}, "No picture of this channel is made yet: the same command goes on with it.");
      return make("section", { class: "maximised", "aria-label": "Maximised" }, make("h3", {}, "What raises it"), content);
    }

    // A kind with the size and the shift of one of its pictures: first ones may be smaller.
    asMade(position, first) {
      const kind = this.layer.kinds[position];
      return first ? { ...kind, pixels: first.slice(0, 2), shift: first[2] } : kind;
    }

    first() { return make("span", { class: "badge is-first" }, "first picture, a finer one follows"); }

    // The pictures of the objective diversity as one figure: one of them where all show the same.
    diverse(unit, index) {
      const { layer } = this;
      const all = unit.p.filter((row, position) => layer.kinds[position].diverse && row?.[6]).length;
      const isOne = unit.d.length < all;
      const pictures = unit.d.map((position, number) => {
        const kind = layer.kinds[position];
        const [activation, , , , , status, , first] = unit.p[position];
        const label = isOne ? "Diversity picture" : `Diversity picture ${number + 1}`;
        return make("figure", { class: `is-${status}` },
          this.picture(kind.letter, index, kind.size, isOne ? 200 : 150, `${label} of channel ${unit.c}: mean of the map ${figure(activation)}`),
          make("figcaption", {}, isOne ? null : make("b", {}, figure(activation)), status === "ok" ? null : make("span", { class: `badge is-${status}` }, status), first ? this.first() : null));
      });
      const title = make("b", {}, defined("diversity", "Other pictures of the same channel", this.link.bind(this)));
      const told = isOne ? `${all === 4 ? "Four" : all} ascents came to the same picture.` : "Found together, each held back where it looks like the others. The number below each is the mean of the map.";
      return make("figure", { class: `diverse${isOne ? " is-one" : ""}` }, make("div", { class: "row" }, pictures),
        make("figcaption", {}, title, make("span", { class: "quiet" }, told), isOne ? facts([["mean of the map", figure(unit.p[unit.d[0]][0])]]) : null));
    }

    examples(unit, index) {
      if (!unit.e?.length || !store.examples) return null;
      const { names, size } = store.examples;
      const [height, width] = fit(size, 132);
      const highest = unit.e[0][1];
      const lit = unit.e.filter((example, rank) => example[6] && rank < this.layer.heats).length;
      const shown = unit.e.map((example, rank) => {
        const cut = patch(example, 132);
        if (!cut) return null;
        const [number, activation, top, left, fieldHeight, fieldWidth, heat] = example;
        const close = make("span", { class: `pic e e-e e-s${cut.sheet}${cut.hard ? " hard" : ""}` });
        Object.assign(close.style, { width: `${cut.width}px`, height: `${cut.height}px`, backgroundSize: cut.size, backgroundPosition: `${cut.x}px ${cut.y}px` });
        const photo = make("span", { class: `pic e e-e e-s${cut.sheet} e-t${cut.tile}` });
        const map = heat && rank < this.layer.heats ? make("span", { class: `${sprite("h", this.layer.index, index, this.layer.tiles)} l${this.layer.index}-j${rank}` }) : null;
        const all = heatmaps.over(photo, map, heatmaps.rescaling([0, activation], highest > 0 ? [0, highest] : null));
        Object.assign(all.style, { width: `${width}px`, height: `${height}px` });
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
          make("figcaption", {}, make("span", {}, "activation ", make("b", {}, figure(activation))), make("bdi", { title: name }, text)));
      });
      return make("section", { "aria-label": "Strongest on the data" }, make("h3", {}, defined("examples", "Strongest on the data", this.link.bind(this))),
        make("p", { class: "quiet" }, `Left: what the neuron sees. Right: the whole image, the neuron's field framed. ${this.litSentence(lit, unit.e.length)}Each number is the activation at that place.`),
        lit && highest > 0 ? heatmaps.key([0, highest], [0, null]) : null, make("div", { class: "row tight" }, shown));
    }

    litSentence(lit, all) {
      if (!lit) return "";
      return lit === all ? "Over it lies the channel's map. " : `Over ${lit} of the ${all} lies the channel's map; the run holds no others. `;
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
      const further = g && g[0] >= Number(this.page.dataset.images) ? [` Highest of all is ${figure(g[1])}, on `, make("bdi", {}, g[4] ?? `image ${g[0] + 1}`), ", which has no page."] : [];
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
        facts([["active places", percent(active)], ["images with an active place", percent(activeImages)], ["mean of all places", figure(mean)], ["highest place", figure(high)], ["lowest place", figure(low)], ["strongest channel in", `${firsts} image${firsts === 1 ? "" : "s"}`], ["silent on the data", dead ? "yes" : null]]));
    }

    style(name) { // style sheet of another layer, whose pictures this page is about to show
      if (this.single || this.styled.has(name) || name === this.slug) return;
      this.styled.add(name);
      document.head.append(make("link", { rel: "stylesheet", href: `assets/${name}.css` }));
    }

    weights(unit, index) {
      if (!unit.w) return null;
      const [norm, bias, inputs, norms, sources, channels, , , pictured] = unit.w;
      const most = norms[0] || 1;
      const named = (source, channel) => make("span", {}, make("bdi", {}, this.layer.names[source]), `, ${channel}`);
      const items = inputs.map((input, rank) => {
        const way = sources[rank] === null ? null : this.layer.ways[sources[rank]];
        const channel = channels[rank];
        const bar = make("meter", { min: 0, max: most, value: norms[rank], "aria-hidden": "true" });
        if (!way) return make("li", {}, make("span", { class: "nopic" }), make("span", {}, sources[rank] === null ? `input ${input}` : named(sources[rank], channel)), bar, make("span", { class: "value" }, figure(norms[rank])));
        const position = way.channels ? way.channels.indexOf(channel) : channel;
        let thumb = make("span", { class: "nopic" });
        if (position >= 0 && way.size && !way.unpictured.includes(channel)) {
          this.style(way.slug);
          const [height, width] = fit(way.size, 40);
          const small = make("span", { class: sprite("k0", way.index, position, way.tiles) });
          Object.assign(small.style, { width: `${width}px`, height: `${height}px` });
          thumb = make("span", { class: "nopic" }, small);
        }
        const text = named(sources[rank], channel);
        return make("li", {}, thumb, position >= 0 ? make("a", { href: this.to(way.page, channel) }, text) : text, bar, make("span", { class: "value" }, figure(norms[rank])));
      });
      const size = this.layer.sizes.w;
      return make("section", {}, make("h3", {}, defined("weights", "Weights", this.link.bind(this))),
        pictured && size ? this.picture("w", index, size, 160, `Kernel of channel ${unit.c}`) : null,
        facts([["norm", figure(norm)], ["bias", bias === null ? null : figure(bias)]]),
        items.length ? make("h4", {}, defined("listens", "Listens to", this.link.bind(this))) : null, items.length ? make("ol", { class: items.some((item) => item.querySelector(".pic")) ? "listens" : "listens is-plain" }, items) : null);
    }

    alike(unit) {
      const near = unit.w ? unit.w[6].map((channel, rank) => [channel, unit.w[7][rank], "cosine"]) : [];
      if (unit.s && unit.s[5] !== null) near.push([unit.s[5], unit.s[6], "correlation"]);
      if (!near.length) return null;
      const kind = this.layer.kinds[0];
      const shown = near.map(([channel, value, what]) => {
        const place = this.grid.place.get(channel);
        const inner = [place === undefined || !kind || !kind.pictured || this.layer.unpictured.includes(channel) ? null : this.picture(kind.letter, place, kind.size, 72), make("b", {}, String(channel)), make("span", { class: "value" }, `${what} ${figure(value)}`)];
        return place === undefined ? make("span", { class: "map" }, inner) : make("a", { class: "map", href: this.address(channel), "aria-label": `Channel ${channel}, ${what} ${figure(value)}` }, inner);
      });
      return make("section", {}, make("h3", {}, defined(unit.w ? "alike" : "active", "Most alike", this.link.bind(this))), make("div", { class: "row maps" }, shown));
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

    again(unit) {
      const command = this.page.dataset.command;
      return make("section", { "aria-label": "Repeat it" }, make("h3", {}, "Repeat it"), make("pre", { tabindex: "0" }, make("code", {}, `${command}${unit.c}`)));
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
      const here = decodeURIComponent(location.hash.slice(1));
      if (page.dataset.prefix === undefined || here === page.id || here.startsWith(page.dataset.prefix)) begin(page);
    }
    for (const view of views) view.follow();
  }
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
        if (next !== undefined) { location.hash = view.address(next); event.preventDefault(); }
      }
      if (event.key === "Escape") location.hash = view.single ? view.link(`layer-${view.slug}.html`) : "#units";
    });
    follow();
  }
  start(); // after the layer's numbers: scripts run in the order of the page
})();
