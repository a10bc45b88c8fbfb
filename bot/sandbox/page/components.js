// Discord's message components, version 2 and the classic action rows, as DOM nodes.

import { h } from "./dom.js";
import { emojiIcon, icon } from "./icons.js";
import { fileCard, gallery, localUrl } from "./media.js";
import { markdown } from "./markdown.js";

export const Type = {
  ACTION_ROW: 1,
  BUTTON: 2,
  STRING_SELECT: 3,
  TEXT_INPUT: 4,
  USER_SELECT: 5,
  ROLE_SELECT: 6,
  MENTIONABLE_SELECT: 7,
  CHANNEL_SELECT: 8,
  SECTION: 9,
  TEXT_DISPLAY: 10,
  THUMBNAIL: 11,
  MEDIA_GALLERY: 12,
  FILE: 13,
  SEPARATOR: 14,
  CONTAINER: 17,
  LABEL: 18,
};

const SELECTS = [Type.STRING_SELECT, Type.USER_SELECT, Type.ROLE_SELECT, Type.MENTIONABLE_SELECT, Type.CHANNEL_SELECT];
export const isSelect = ({ type }) => SELECTS.includes(type);

const BUTTON_STYLES = { 1: "primary", 2: "secondary", 3: "success", 4: "danger", 5: "link" };

/**
 * Nodes for a component tree. `context` says how to read it: {scope, names, revealed, waiting},
 * where `waiting` holds the custom ids whose interaction is not answered yet.
 */
export function components(tree, context) {
  return tree.map((component) => RENDERERS[component.type]?.(component, context) ?? null);
}

const RENDERERS = {
  [Type.ACTION_ROW]: (row, context) => h("div.action-row", { role: "group" }, components(row.components, context)),
  [Type.BUTTON]: button,
  ...Object.fromEntries(SELECTS.map((type) => [type, select])),
  [Type.SECTION]: section,
  [Type.TEXT_DISPLAY]: ({ content }, context) => h("div.text", {}, markdown(content, context)),
  [Type.THUMBNAIL]: ({ media, description, spoiler }, context) =>
    h("div.thumbnail", {}, gallery([{ media, description, spoiler }], context)),
  [Type.MEDIA_GALLERY]: ({ items }, context) => gallery(items, context),
  [Type.FILE]: ({ file, name, size }) => fileCard(file.url, name, size),
  [Type.SEPARATOR]: ({ divider = true, spacing = 1 }) =>
    h(`hr.separator${divider ? "" : ".blank"}${spacing === 2 ? ".wide" : ""}`),
  [Type.CONTAINER]: container,
};

function button({ style, label, emoji, custom_id, disabled, url }, context) {
  const content = [emojiOf(emoji, Boolean(label)), label ? h("span", {}, label) : null];
  const look = BUTTON_STYLES[style] ?? "secondary";
  if (style === 5 && /^https?:\/\//.test(url ?? "")) {
    return h("a.button.link", { href: url, target: "_blank", rel: "noopener noreferrer" }, content, icon("open"));
  }
  const waiting = context.waiting.has(custom_id);
  return h(
    `button.button.${look}${waiting ? ".waiting" : ""}`,
    {
      type: "button",
      disabled,
      "data-action": "press",
      "data-custom-id": custom_id,
      "aria-busy": waiting ? "true" : null,
    },
    content,
  );
}

/** `decorative` where a label stands beside it and the emoji need not be read out. */
export function emojiOf(emoji, decorative) {
  if (!emoji) return null;
  const drawing = emoji.id ? null : emojiIcon(emoji.name);
  const accessible = decorative ? { "aria-hidden": "true" } : { role: "img", "aria-label": emoji.name };
  return h("span.emoji", accessible, drawing ?? (emoji.id ? `:${emoji.name}:` : emoji.name));
}

function select(component, context) {
  const { custom_id, placeholder, disabled, options = [], default_values = [] } = component;
  const chosen = [
    ...options.filter((option) => option.default).map((option) => option.label),
    ...default_values.map(({ id, type }) => context.names[type]?.(id) ?? id),
  ];
  const prompt = placeholder || "Make a selection";
  const waiting = context.waiting.has(custom_id);
  return h(
    `button.select${waiting ? ".waiting" : ""}`,
    {
      type: "button",
      disabled,
      "data-action": "select",
      "data-custom-id": custom_id,
      "aria-haspopup": "listbox",
      "aria-label": chosen.length ? `${prompt}: ${chosen.join(", ")}` : prompt,
      "aria-busy": waiting ? "true" : null,
    },
    h(`span${chosen.length ? "" : ".placeholder"}`, {}, chosen.join(", ") || prompt),
    icon("down"),
  );
}

function section({ components: texts, accessory }, context) {
  return h(
    "div.section",
    {},
    h("div.section-text", {}, components(texts, context)),
    accessory ? h("div.accessory", {}, components([accessory], context)) : null,
  );
}

function container({ components: children, accent_color, spoiler, id }, context) {
  const name = `${context.scope}:container:${id ?? 0}`;
  const hidden = spoiler && !context.revealed.has(name);
  const accent = accent_color === null || accent_color === undefined ? null : hex(accent_color);
  return h(
    `div.container${accent ? ".accented" : ""}${hidden ? ".hidden" : ""}`,
    { style: accent ? { "--accent-color": accent } : {} },
    hidden
      ? h(
          "button.spoiler-cover",
          { type: "button", "data-action": "reveal", "data-spoiler": name },
          "Spoiler, press to show",
        )
      : null,
    h("div.container-content", { inert: hidden }, components(children, context)),
  );
}

export const hex = (colour) => `#${Number(colour).toString(16).padStart(6, "0")}`;

/** Classic embeds: what a bot without components v2 would send. */
export function embed(data, context) {
  const { color, author, title, url, description, fields = [], image, thumbnail, footer, timestamp } = data;
  const text = (content) => markdown(content, context);
  const heading =
    url && /^https?:/.test(url) ? h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, title) : title;
  const small = [footer?.text, timestamp ? new Date(timestamp).toLocaleString() : null].filter(Boolean).join(" • ");
  return h(
    "div.container.embed.accented",
    { style: { "--accent-color": color ? hex(color) : "var(--line-strong)" } },
    h(
      "div.container-content",
      {},
      h(
        "div.section",
        {},
        h(
          "div.section-text",
          {},
          author?.name ? h("div.embed-author", {}, author.name) : null,
          title ? h("div.embed-title", {}, heading) : null,
          description ? h("div.text", {}, text(description)) : null,
        ),
        thumbnail && localUrl(thumbnail.url) ? h("div.thumbnail", {}, gallery([{ media: thumbnail }], context)) : null,
      ),
      fields.length
        ? h(
            "div.embed-fields",
            {},
            fields.map(({ name, value, inline }) =>
              h(
                `div.embed-field${inline ? ".inline" : ""}`,
                {},
                h("div.embed-field-name", {}, name),
                h("div.text", {}, text(value)),
              ),
            ),
          )
        : null,
      image && localUrl(image.url) ? gallery([{ media: image }], context) : null,
      small ? h("div.subtext", {}, small) : null,
    ),
  );
}
