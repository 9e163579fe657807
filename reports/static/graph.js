// Zooms the drawing of the architecture and moves it by dragging. Its frame scrolls by itself, with keys too.
"use strict";

for (const section of document.querySelectorAll(".architecture .drawing")) {
  const frame = section.querySelector(".canvas");
  const svg = frame.querySelector("svg");
  const [width, height] = [Number(svg.getAttribute("width")), Number(svg.getAttribute("height"))];
  let scale = 1;
  section.querySelector(".zoom").hidden = false;

  const zoom = (to, x = frame.clientWidth / 2, y = frame.clientHeight / 2) => {
    const next = Math.min(2.5, Math.max(0.08, to));
    const [left, top] = [frame.scrollLeft + x, frame.scrollTop + y];
    svg.setAttribute("width", width * next);
    svg.setAttribute("height", height * next);
    frame.scrollTo((left * next) / scale - x, (top * next) / scale - y);
    scale = next;
    svg.classList.toggle("far", scale < 0.45);
  };
  const fit = () => zoom((frame.clientWidth - 2) / width);
  const act = { out: () => zoom(scale / 1.3), in: () => zoom(scale * 1.3), fit };
  for (const button of section.querySelectorAll("[data-zoom]")) button.addEventListener("click", act[button.dataset.zoom]);
  frame.addEventListener("keydown", (event) => {
    const does = { "+": act.in, "=": act.in, "-": act.out, 0: fit }[event.key];
    if (does && !event.ctrlKey && !event.metaKey) { does(); event.preventDefault(); }
  });
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const box = frame.getBoundingClientRect();
    zoom(scale * Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });

  let held = null;
  frame.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button === 0) held = { x: event.clientX, y: event.clientY, left: frame.scrollLeft, top: frame.scrollTop, moved: false };
  });
  addEventListener("pointermove", (event) => {
    if (!held) return;
    const [x, y] = [event.clientX - held.x, event.clientY - held.y];
    held.moved ||= Math.hypot(x, y) > 4;
    if (held.moved) { frame.classList.add("held"); frame.scrollTo(held.left - x, held.top - y); }
  });
  addEventListener("pointerup", () => { frame.classList.remove("held"); setTimeout(() => { held = null; }); });
  frame.addEventListener("click", (event) => { if (held?.moved) event.preventDefault(); }, true);
  frame.addEventListener("dragstart", (event) => event.preventDefault());
  if (frame.clientWidth > width * 0.55 && frame.clientWidth < width) fit();
}
