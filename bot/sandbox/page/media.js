// Pictures and files of messages. Only addresses of this server are ever loaded.

import { h } from "./dom.js";
import { icon } from "./icons.js";

const EXTERNAL = "External media is not loaded in the sandbox.";

/** The address to load, or null unless this server's own CDN has it. */
export function localUrl(url) {
  try {
    const { origin, pathname, href } = new URL(url, location.href);
    return origin === location.origin && pathname.startsWith("/cdn/") ? href : null;
  } catch {
    return null;
  }
}

const fileName = (url) => decodeURIComponent(new URL(url, location.href).pathname.split("/").pop());

const isImage = ({ content_type, filename, media }) =>
  (content_type ?? media?.content_type ?? "").startsWith("image/") || /\.(png|webp|jpe?g|gif)$/i.test(filename ?? "");

/**
 * A gallery as Discord lays one out: one large, two side by side, four as 2 x 2, up to ten.
 * `items` are media gallery items: {media: {url, width, height}, description, spoiler}.
 */
export function gallery(items, context) {
  const tiles = items.map((item, index) => tile(item, index, context));
  return h("div.gallery", { "data-count": Math.min(items.length, 10), "data-key": `gallery-${items.length}` }, tiles);
}

function tile(item, index, context) {
  const { width, height } = item.media;
  const url = localUrl(item.media.url);
  const description = item.description ?? "";
  if (!url) return h("div.tile.blocked", {}, EXTERNAL);
  const name = `${context.scope}:${fileName(url)}`;
  const hidden = item.spoiler && !context.revealed.has(name);
  const image = h("img", { src: url, alt: hidden ? "" : description, width, height, draggable: "false" });
  return h(
    `button.tile${hidden ? ".hidden" : ""}`,
    {
      type: "button",
      "data-key": name,
      "data-action": hidden ? "reveal" : "zoom",
      "data-spoiler": hidden ? name : null,
      "aria-label": hidden
        ? "Spoiler, press to show"
        : `Open picture ${index + 1}${description ? `: ${description}` : ""}`,
      style: width && height ? { "--ratio": `${width} / ${height}` } : {},
    },
    image,
    hidden ? h("span.spoiler-tag", { "aria-hidden": "true" }, "Spoiler") : null,
  );
}

/** Attachments of a classic message: pictures as a gallery, the rest as file cards. */
export function attachments(list, context) {
  const pictures = list.filter(isImage).map((attachment) => ({
    media: attachment,
    description: attachment.description,
    spoiler: attachment.filename?.startsWith("SPOILER_"),
  }));
  const files = list.filter((attachment) => !isImage(attachment));
  return [
    pictures.length ? gallery(pictures, context) : null,
    files.map((file) => fileCard(file.url, file.filename, file.size)),
  ];
}

export function fileCard(address, name, size) {
  const url = localUrl(address);
  if (!url) return h("div.file", {}, icon("file"), h("span.muted", {}, EXTERNAL));
  const title = name ?? fileName(url);
  return h(
    "div.file",
    {},
    icon("file"),
    h("div", {}, h("a", { href: url, download: title }, title), size ? h("div.muted", {}, readableSize(size)) : null),
  );
}

function readableSize(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1048576 ? `${(bytes / 1024).toFixed(1)} KB` : `${(bytes / 1048576).toFixed(2)} MB`;
}
