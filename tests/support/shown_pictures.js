// What every visible picture of a page claims to be, read from headings, captions and links, and where it is drawn.
async (pass) => {
  const text = (element) => (element ? element.textContent.trim() : null);
  const label = (element) => element.getAttribute("aria-label") ?? "";
  const address = (link) => (link ? link.getAttribute("href") : null);
  const layerOf = (element) => text(element.closest("main").querySelector("h1"));

  function claim(element) {
    const main = element.closest("main");
    const has = (name) => main.classList.contains(name);
    if (element.matches(".cmp-px")) {
      const [, side, channel] = /^([AB]): picture of channel (\d+)/.exec(label(element));
      const heading = element.closest("article").querySelector("h3 bdi");
      return ["compared", side, heading ? text(heading) : layerOf(element), text(element.closest(".cmp-kind").querySelector("p b")), +channel];
    }
    if (element.tagName === "use") {
      const card = element.closest("a");
      const order = [...card.querySelectorAll("use")].indexOf(element);
      return ["card", address(card), order];
    }
    if (element.matches("img")) {
      const alt = element.alt;
      const heading = element.closest(".firing")?.querySelector("h3 bdi");
      const image = has("image-page") ? +/Image (\d+)/.exec(text(main.querySelector(".over")))[1] - 1 : null;
      const telling = element.closest(".telling li");
      if (telling) {
        const channel = +/channel (\d+)/.exec(text(telling.querySelector("h3")))[1];
        const layer = text(telling.querySelector("h3 bdi"));
        return /^Maximised picture/.test(alt) ? ["unit", layer, channel, "Channel"] : ["patch", layer, channel, 0];
      }
      if (has("index")) return ["image", +/^Image (\d+):/.exec(alt)[1] - 1];
      if (element.matches(".over")) {
        const caption = element.closest("figure").querySelector("b");
        return ["attribution", image, text(caption), alt];
      }
      if (element.closest(".stack") || / as the network saw it$/.test(alt)) return ["image", image];
      let found = /^Group (\d+): where/.exec(alt);
      if (found) return ["lit", image, text(heading), +found[1] - 1];
      found = /^Group (\d+): its/.exec(alt);
      if (found) return ["group", image, text(heading), +found[1] - 1];
      if (/^Activation grid/.test(alt)) return ["grid", image, text(heading)];
      found = /^(Inversion of|Caricature by) (.*)$/.exec(alt);
      if (found) return [found[1] === "Inversion of" ? "inversion" : "caricature", image, found[2]];
      return ["unknown", element.outerHTML];
    }
    if (has("data-page")) {
      if (element.matches(".data-m")) return ["example", label(element)];
      if (element.matches(".why-a")) return ["mistake", label(element.parentElement.querySelector(".data-m"))];
      if (element.matches(".data-u")) return ["speaker", address(element.closest("a"))];
    }
    if (has("classes")) return ["class", +element.closest("li").id.split("-").at(-1)];
    if (has("index")) {
      const shown = [...element.closest("li").querySelectorAll(".tally")].map(text).map((line) => /kind “(.*)”/.exec(line)?.[1]);
      const href = address(element.closest("a"));
      return ["strip", href, shown.find(Boolean) ?? null];
    }
    if (has("image-page")) {
      const image = +/Image (\d+)/.exec(text(main.querySelector(".over")))[1] - 1;
      const place = element.closest(".firing");
      const channel = +text(element.closest("figure").querySelector("b"));
      if (element.matches(".thumb")) return ["image", image];
      const link = place.querySelector("h3 > a");
      return link ? ["firing", image, text(link), channel] : ["value", image, text(place.querySelector("h3 bdi")), channel];
    }
    if (!has("layer-page")) return ["unknown", element.outerHTML];
    const layer = layerOf(element);
    if (element.matches(".u")) {
      const radio = main.querySelector("input[name=show]:checked");
      const photo = radio.closest(".on-image");
      const channel = +text(element.querySelector("b"));
      if (photo) return ["map", layer, channel, text(photo.querySelector(".hide"))];
      const mode = text(radio.parentElement);
      return mode === "Strongest on the data" ? ["patch", layer, channel, 0] : ["unit", layer, channel, mode];
    }
    if (element.closest(".on-image")) return ["thumb", text(element.closest(".on-image").querySelector(".hide"))];
    const channel = +/^Channel (\d+)/.exec(text(element.closest(".view").querySelector("h2")))[1];
    if (element.closest(".maximised")) return ["unit", layer, channel, text(element.closest("figure").querySelector("figcaption b"))];
    const twin = element.closest(".twin");
    if (twin) {
      const [, rank, name] = /^(\d+)\. (.*?)(?:, cat)?: activation/.exec(label(twin));
      if (element.matches(".h")) return ["heat", layer, channel, +rank - 1];
      return element === twin.firstElementChild ? ["patch", layer, channel, +rank - 1] : ["example", name, layer, channel, +rank - 1];
    }
    if (/^Kernel of channel/.test(label(element))) return ["unit", layer, channel, "Weights"];
    if (/^Best stimulus/.test(label(element))) return ["unit", layer, channel, "Best stimulus"];
    if (/^Analytic, own input picture/.test(label(element))) return ["unit", layer, channel, "Analytic, own input"];
    const source = element.closest(".listens li");
    if (source) {
      const [, name, number] = /^(.*) (\d+)$/.exec(text(source.querySelector("bdi").parentElement));
      return ["unit", name, +number, null];
    }
    const other = element.closest(".map");
    if (other && /^Channel \d+,/.test(label(other))) return ["unit", layer, +/\d+/.exec(label(other))[0], null];
    if (other) {
      const name = text(other.querySelector("bdi"));
      return element.matches(".thumb") ? ["thumb", name] : ["map", layer, channel, name];
    }
    return ["unknown", element.outerHTML];
  }

  const found = [];
  const addresses = new Set();
  for (const element of document.querySelectorAll("main *")) {
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.matches(".u b")) continue; // the photo under a map of the grid, which is taken away here
    const own = getComputedStyle(element).backgroundImage;
    const before = getComputedStyle(element, "::before");
    const drawn = element.matches("img, use") ? "itself" : own.includes("url(") ? "background" : before.backgroundImage.includes("url(") ? "before" : null;
    if (!drawn) continue;
    if ((element.matches(".map-heat, .stack .over")) !== (pass === "over")) continue;
    const box = element.getBoundingClientRect();
    let [x, y, width, height] = [box.x + scrollX, box.y + scrollY, box.width, box.height];
    if (drawn === "before") [y, width, height] = [y + parseFloat(getComputedStyle(element).paddingTop), parseFloat(before.width), parseFloat(before.height)];
    if (element.tagName === "use") {
      const frame = element.closest("svg"), place = frame.parentElement.getScreenCTM();
      const side = (name) => frame[name].baseVal.value;
      const [, , wide, high] = frame.getAttribute("viewBox").split(" ").map(Number);
      const scale = Math.min(side("width") / wide, side("height") / high); // the whole of it, in the middle
      [width, height] = [wide * scale * place.a, high * scale * place.d];
      x = place.e + place.a * (side("x") + side("width") / 2) - width / 2 + scrollX;
      y = place.f + place.d * (side("y") + side("height") / 2) - height / 2 + scrollY;
    }
    if (width < 1 || height < 1) continue;
    const address = /url\("(.*?)"\)/.exec(drawn === "before" ? before.backgroundImage : own)?.[1];
    if (address) addresses.add(address);
    found.push({ claim: claim(element), box: [x, y, width, height] });
  }
  for (const image of document.images) image.loading = "eager";
  const pictures = [...addresses].map((address) => Object.assign(new Image(), { src: address }));
  await Promise.all([...pictures, ...document.images].filter((image) => image.checkVisibility() || !image.isConnected).map((image) => image.decode()));
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  return found;
}
