// The page's own line drawings, so that it looks the same wherever it runs.

const SVG = "http://www.w3.org/2000/svg";

/** A 24-unit line drawing; decorative, so hidden from assistive technology. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

const ICONS = {
  hash: "M5 9h15M4 15h15M10 4 8 20M16 4l-2 16",
  menu: "M4 6h16M4 12h16M4 18h16",
  members:
    "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM2.5 20c0-3.6 2.9-6 6.5-6s6.5 2.4 6.5 6M16 4.3a3.5 3.5 0 0 1 0 6.4M18 14.4c2.1.8 3.5 2.8 3.5 5.6",
  close: "M6 6l12 12M18 6 6 18",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  down: "M6 9l6 6 6-6",
  arrowDown: "M12 5v14M6 13l6 6 6-6",
  check: "M5 12.5l4.5 4.5L19 7.5",
  eye: "M2 12s3.6-6.5 10-6.5S22 12 22 12s-3.6 6.5-10 6.5S2 12 2 12ZM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6Z",
  warning: "M12 3.5 22 20.5H2ZM12 10v5M12 17.5v.5",
  file: "M6 2.5h8l5 5v14H6ZM14 2.5v5h5",
  open: "M14 4h6v6M20 4l-9 9M18 14v6H4V6h6",
  send: "M3.5 20.5 21 12 3.5 3.5l2 7L14 12l-8.5 1.5Z",
  spark: "M12 3l2.2 6.8L21 12l-6.8 2.2L12 21l-2.2-6.8L3 12l6.8-2.2Z",
  clock: "M12 21.5a9.5 9.5 0 1 0 0-19 9.5 9.5 0 0 0 0 19ZM12 7v5.3l3.5 2",
  info: "M12 21.5a9.5 9.5 0 1 0 0-19 9.5 9.5 0 0 0 0 19ZM12 11v6M12 7.2v.4",
  refresh: "M20 5v5h-5M19.6 10A8 8 0 1 0 20 14",
  trash: "M4 6.5h16M9 6.5v-3h6v3M6 6.5l1 14h10l1-14M10 10.5v6M14 10.5v6",
  plus: "M12 5v14M5 12h14",
  flag: "M5 21V4M5 4.5h13l-3 4.5 3 4.5H5",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM15.3 15.3 20.5 20.5",
  pencil: "M4 20l1-4.5L16 4.5l3.5 3.5-11 11ZM14 6.5l3.5 3.5",
  question: "M8.5 9a3.5 3.5 0 1 1 5 3.2c-1 .5-1.5 1.2-1.5 2.3M12 18.2v.4",
  swap: "M7 4 3 8l4 4M3 8h14M17 12l4 4-4 4M21 16H7",
};

// Emoji that bots use for signs; drawn, because a machine may have no emoji font.
const EMOJI = {
  "🔄": "refresh",
  "🔁": "refresh",
  "🗑": "trash",
  ℹ: "info",
  "❌": "close",
  "✖": "close",
  "✅": "check",
  "⚠": "warning",
  "🕓": "clock",
  "🚩": "flag",
  "🔎": "search",
  "✏": "pencil",
  "❔": "question",
};

/** Matches one of the emoji that `emojiIcon` draws. */
export const DRAWN_EMOJI = new RegExp(`(?:${Object.keys(EMOJI).join("|")})\\uFE0F?`, "u");

const VARIATION_SELECTOR = /\uFE0F/g;

/** A drawing for the emoji, or null where the page has none. */
export function emojiIcon(emoji) {
  const name = EMOJI[emoji.replace(VARIATION_SELECTOR, "")];
  return name ? icon(name) : null;
}
