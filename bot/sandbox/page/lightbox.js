// One picture, as large as the window allows; Escape closes, arrows go through the message's pictures.

import { h } from "./dom.js";
import { icon } from "./icons.js";

/** Small pictures are shown at least this wide (CSS px) when there is room. */
const SMALLEST_PX = 640;

/** Opens at `tile`, one of the gallery tiles of a message. */
export function openLightbox(tile) {
  const tiles = [...tile.closest("[data-message-id]").querySelectorAll("[data-action=zoom]")];
  const pictures = tiles
    .map((each) => each.querySelector("img"))
    .map(({ src, alt, width, height }) => ({ src, alt, width, height }));
  let index = tiles.indexOf(tile);

  const image = h("img");
  const caption = h("figcaption", { "aria-live": "polite" });
  const original = h("a", { target: "_blank" }, "Open original", icon("open"));
  const step = (by, name, glyph) =>
    h(
      `button.lightbox-step.${glyph}`,
      { type: "button", "aria-label": name, onclick: () => show(index + by) },
      icon(glyph),
    );
  const several = pictures.length > 1;
  const dialog = h(
    "dialog.lightbox",
    { "aria-label": "Picture", onclick: closeOnBackdrop, onclose: () => dialog.remove(), onkeydown: onKey },
    h("button.lightbox-close", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, icon("close")),
    several ? step(-1, "Previous picture", "left") : null,
    h("figure", {}, image, h("div.lightbox-foot", {}, caption, original)),
    several ? step(1, "Next picture", "right") : null,
  );

  function show(next) {
    index = (next + pictures.length) % pictures.length;
    const { src, alt, width, height } = pictures[index];
    image.src = src;
    image.alt = alt;
    image.style.setProperty("--ratio", width / height || 1);
    image.style.setProperty("--wanted", `${Math.max(width, SMALLEST_PX)}px`);
    original.href = src;
    caption.textContent = alt || `Picture ${index + 1} of ${pictures.length}`;
  }

  function onKey(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !several) return;
    event.preventDefault();
    show(index + by);
  }

  function closeOnBackdrop({ target }) {
    if (target === dialog || target.tagName === "FIGURE") dialog.close();
  }

  show(index);
  document.body.append(dialog);
  dialog.showModal();
}
