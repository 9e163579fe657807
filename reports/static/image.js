// The slider between an image and what is laid over it.
"use strict";

for (const blend of document.querySelectorAll(".blend")) {
  const slider = blend.querySelector("input");
  const section = blend.closest("section");
  blend.hidden = false;
  const set = () => {
    const share = slider.value / 100;
    section.style.setProperty("--under", String(1 - share));
    section.style.setProperty("--above", String(Math.min(1, 2 * share)));
  };
  slider.addEventListener("input", set);
  set();
}
