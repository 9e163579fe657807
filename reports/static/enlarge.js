// Any picture large: a click, or Enter on it, opens it in a dialog with its caption. Escape and a click close it.
// Pictures of a channel's view and of an image's page are found by their classes; links keep leading where they lead.
"use strict";

(() => {
  const PICTURES = ".view .twin, .view .overlay, .view .pic, .image-page .seen > img, .drawn img, .stack > div, .image-page .overlay, .mosaic img";
  const WHOLE = ".twin, .overlay, .stack > div"; // of several pictures that lie together, all are opened
  let dialog = null, opened = null;

  // The picture that an element belongs to; null for what leads elsewhere or is no picture.
  function pictureOf(element) {
    const one = element.closest?.(PICTURES);
    if (!one || one.closest("a, dialog, .units") || one.matches(".blank")) return null;
    const outer = one.parentElement.closest(WHOLE);
    return outer ? pictureOf(outer) : one;
  }
  const allIn = (place) => [...new Set([...place.querySelectorAll(PICTURES)].map(pictureOf).filter(Boolean))];

  function labelOf(picture) {
    const own = picture.getAttribute("aria-label") || picture.alt || [...picture.querySelectorAll("img")].map((image) => image.alt).filter(Boolean).join(", ");
    if (own) return own;
    const around = picture.closest("figure, li, section");
    return (around?.querySelector("figcaption, h3") ?? around)?.textContent.trim().replace(/\s+/g, " ") || "Picture";
  }

  // Pictures become buttons, so that keys reach them.
  function prepare(place) {
    for (const picture of allIn(place)) {
      if (picture.tabIndex === 0) continue;
      picture.setAttribute("aria-label", labelOf(picture));
      picture.setAttribute("role", "button");
      picture.setAttribute("aria-haspopup", "dialog");
      picture.tabIndex = 0;
      picture.classList.add("opens");
    }
  }

  // A copy `factor` times as large. Parts whose style is in pixels grow with it; others are in per cent.
  function enlarged(picture, factor) {
    const copy = picture.cloneNode(true);
    const originals = [picture, ...picture.querySelectorAll("*")];
    [copy, ...copy.querySelectorAll("*")].forEach((part, index) => {
      for (const name of ["id", "role", "tabindex", "aria-label", "aria-haspopup", "loading"]) part.removeAttribute(name);
      part.classList.remove("opens");
      for (const property of ["width", "height", "backgroundSize", "backgroundPosition"]) {
        part.style[property] = part.style[property].replace(/-?[\d.]+(e-?\d+)?px/g, (length) => `${parseFloat(length) * factor}px`);
      }
      if (part.matches("img")) for (const property of ["opacity", "filter"]) part.style[property] = getComputedStyle(originals[index])[property];
    });
    return copy;
  }

  // Under a map lies a thumbnail: the image itself takes its place.
  function sharpened(copy) {
    for (const thumb of copy.querySelectorAll(".thumb")) {
      const image = /images-i(\d+)/.exec(thumb.className)?.[1];
      if (image === undefined) continue;
      const inHere = document.querySelector(`[id="image-${image}"] .seen > img`)?.src; // in a single file
      Object.assign(thumb.style, { backgroundImage: `url("${inHere ?? `assets/image-${image}.webp`}")`, backgroundSize: "100% 100%" });
    }
    return copy;
  }

  function sized(picture) {
    const box = picture.getBoundingClientRect();
    const factor = Math.max(1, Math.min((0.9 * innerWidth) / box.width, (0.62 * innerHeight) / box.height));
    if (picture.matches(".twin")) { // side by side where there is room
      const parts = [...picture.children];
      const wide = parts.reduce((sum, part) => sum + part.offsetWidth, 0), high = Math.max(...parts.map((part) => part.offsetHeight));
      const beside = Math.min((0.86 * innerWidth) / wide, (0.62 * innerHeight) / high);
      const below = Math.min((0.82 * innerWidth) / (wide / parts.length), (0.66 * innerHeight) / (high * parts.length));
      return enlarged(picture, Math.max(1, beside, below));
    }
    const copy = sharpened(enlarged(picture, factor));
    Object.assign(copy.style, { width: `${box.width * factor}px`, height: `${box.height * factor}px` });
    return copy;
  }

  function caption(picture) {
    const title = document.createElement("p");
    title.className = "large-title";
    title.textContent = labelOf(picture);
    const told = picture.dataset.large; // in place of the caption, where a picture has one of its own
    const figcaption = told ? null : picture.closest("figure")?.querySelector(":scope > figcaption");
    const copy = figcaption?.cloneNode(true);
    for (const part of copy?.querySelectorAll("[id]") ?? []) part.removeAttribute("id");
    const key = picture.querySelector(".map-heat") ? keyOf(picture) : null;
    const all = neighbours();
    const place = document.createElement("p");
    place.className = "quiet";
    if (all.length > 1) place.textContent = `${all.indexOf(picture) + 1} of ${all.length}: arrow keys lead to the next`;
    const inner = document.createElement("div");
    inner.append(...(copy ? copy.childNodes : [told ?? ""]));
    return [title, inner, key?.cloneNode(true), place].filter(Boolean);
  }

  // The colours of maps and their switches, of the nearest section around that has them.
  function keyOf(picture) {
    for (let place = picture.closest("section"); place; place = place.parentElement?.closest("section")) {
      const key = place.querySelector(".heat-key");
      if (key) return key;
    }
    return null;
  }

  const neighbours = () => allIn(opened.closest("section") ?? document);

  function fill(picture) {
    opened = picture;
    dialog.setAttribute("aria-label", labelOf(picture));
    dialog.querySelector(".large-picture").replaceChildren(sized(picture));
    dialog.querySelector(".large-caption").replaceChildren(...caption(picture));
  }

  function open(picture) {
    if (!dialog) {
      dialog = document.createElement("dialog");
      dialog.className = "large";
      const close = document.createElement("button");
      Object.assign(close, { type: "button", className: "close", textContent: "Close" });
      const [frame, words] = ["large-picture", "large-caption"].map((name) => Object.assign(document.createElement("div"), { className: name }));
      dialog.append(close, frame, words);
      dialog.addEventListener("click", (event) => { if (!event.target.closest("[data-maps]") && !getSelection().toString()) dialog.close(); });
      dialog.addEventListener("close", () => opened?.focus({ preventScroll: true }));
      document.body.append(dialog);
    }
    fill(picture);
    dialog.showModal();
  }

  addEventListener("click", (event) => {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const picture = event.target.closest?.("a, dialog") ? null : pictureOf(event.target);
    if (picture) open(picture);
  });
  addEventListener("keydown", (event) => { // before the page's own keys
    if (dialog?.open) {
      event.stopImmediatePropagation();
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const all = neighbours();
      const next = by && all[all.indexOf(opened) + by];
      if (next) { fill(next); event.preventDefault(); }
    } else if ((event.key === "Enter" || event.key === " ") && event.target.matches?.(".opens")) {
      event.preventDefault();
      event.stopImmediatePropagation();
      open(event.target);
    }
  }, true);
  addEventListener("hashchange", () => dialog?.close());
  prepare(document);
  const watch = new MutationObserver((changes) => { for (const place of new Set(changes.map((change) => change.target))) prepare(place); });
  for (const view of document.querySelectorAll(".view")) watch.observe(view, { childList: true });
})();
