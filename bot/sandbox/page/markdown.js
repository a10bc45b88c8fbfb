// The part of Discord's markdown that bots write, as DOM nodes.

import { h } from "./dom.js";
import { DRAWN_EMOJI, emojiIcon } from "./icons.js";
import { formatTimestamp, fullDate } from "./time.js";

/**
 * Nodes for `text`. `names` resolves mentions: {user(id), role(id), channel(id)} each give a name or null;
 * `revealed` holds the keys of opened spoilers, which begin with `scope`.
 */
export function markdown(text, { names = {}, revealed = new Set(), scope = "" } = {}) {
  const context = { names, revealed, scope, spoilers: 0 };
  return blocks(text.replaceAll("\r\n", "\n").split("\n"), context);
}

function blocks(lines, context) {
  const out = [];
  let position = 0;
  while (position < lines.length) {
    const block = BLOCKS.find(({ starts }) => starts.test(lines[position])) ?? PARAGRAPH;
    const [node, next] = block.read(lines, position, context);
    out.push(node);
    position = next;
  }
  return out;
}

/** Index of the first line from `from` that `pattern` does not match. */
function runEnd(lines, from, pattern) {
  let end = from;
  while (end < lines.length && pattern.test(lines[end])) end += 1;
  return end;
}

const BLOCKS = [
  {
    starts: /^```/,
    read(lines, at) {
      const sameLine = lines[at].match(/^```(.*)```$/);
      if (sameLine) return [h("pre", {}, h("code", {}, sameLine[1])), at + 1];
      const close = lines.findIndex((line, index) => index > at && line.endsWith("```"));
      const end = close < 0 ? lines.length : close;
      const firstIsLanguage = /^```[\w+-]*$/.test(lines[at]);
      const code = [
        ...(firstIsLanguage ? [] : [lines[at].slice(3)]),
        ...lines.slice(at + 1, end),
        ...(close >= 0 && lines[close] !== "```" ? [lines[close].slice(0, -3)] : []),
      ];
      return [h("pre", {}, h("code", {}, code.join("\n"))), close < 0 ? end : end + 1];
    },
  },
  {
    starts: /^>>> /,
    read: (lines, at, context) => [
      h("blockquote", {}, blocks([lines[at].slice(4), ...lines.slice(at + 1)], context)),
      lines.length,
    ],
  },
  {
    starts: /^> /,
    read(lines, at, context) {
      const end = runEnd(lines, at, /^> /);
      return [
        h(
          "blockquote",
          {},
          blocks(
            lines.slice(at, end).map((line) => line.slice(2)),
            context,
          ),
        ),
        end,
      ];
    },
  },
  {
    starts: /^#{1,3} +\S/,
    read(lines, at, context) {
      const [, marks, title] = lines[at].match(/^(#{1,3}) +(.*)$/);
      // Messages stand below the page's own h1 and h2.
      return [h(`h${marks.length + 2}.heading-${marks.length}`, {}, inline(title, context)), at + 1];
    },
  },
  {
    starts: /^-# +\S/,
    read: (lines, at, context) => [h("p.subtext", {}, inline(lines[at].replace(/^-# +/, ""), context)), at + 1],
  },
  {
    starts: /^\s*(?:[-*]|\d{1,3}\.) +\S/,
    read(lines, at, context) {
      const end = runEnd(lines, at, /^\s*(?:[-*]|\d{1,3}\.) +\S/);
      return [list(lines.slice(at, end), context), end];
    },
  },
];

const PARAGRAPH = {
  read(lines, at, context) {
    let end = at + 1;
    while (end < lines.length && !BLOCKS.some(({ starts }) => starts.test(lines[end]))) end += 1;
    return [h("p", {}, inline(lines.slice(at, end).join("\n"), context)), end];
  },
};

function list(lines, context) {
  const ordered = /^\s*\d/.test(lines[0]);
  const depth = lines[0].match(/^\s*/)[0].length;
  const items = [];
  for (const line of lines) {
    if (line.match(/^\s*/)[0].length > depth && items.length) items.at(-1).nested.push(line);
    else items.push({ text: line.replace(/^\s*(?:[-*]|\d{1,3}\.) +/, ""), nested: [] });
  }
  const start = ordered ? Number.parseInt(lines[0], 10) : null;
  return h(
    ordered ? "ol" : "ul",
    { start: start === 1 ? null : start },
    items.map(({ text, nested }) => h("li", {}, inline(text, context), nested.length ? list(nested, context) : null)),
  );
}

// The earliest match wins; of two at one place, the first of the list.
const INLINE = [
  [/\\([\\`*_~|>#<\-[\]()])/, ([, character]) => character],
  [/``(.+?)``(?!`)|`([^`\n]+)`/s, ([, double, single]) => h("code", {}, double ?? single)],
  [DRAWN_EMOJI, ([emoji]) => emojiIcon(emoji)],
  [/<t:(-?\d{1,12})(?::([tTdDfFR]))?>/, ([, epoch, style]) => timestamp(Number(epoch), style)],
  [/<@!?(\d+)>/, ([, id], { names }) => mention("@", names.user?.(id), id)],
  [/<@&(\d+)>/, ([, id], { names }) => mention("@", names.role?.(id), id)],
  [/<#(\d+)>/, ([, id], { names }) => mention("#", names.channel?.(id), id)],
  [/<\/([^:>]+):\d+>/, ([, name]) => h("span.mention", {}, `/${name}`)],
  [/<a?:(\w+):\d+>/, ([, name]) => `:${name}:`],
  [/\[([^\]\n]+)\]\(<?(https?:\/\/[^\s)>]+)>?\)/, ([, label, url], context) => link(url, inline(label, context))],
  [
    /<(https?:\/\/[^\s>]+)>|(https?:\/\/[^\s<]*[^\s<.,:;"')\]])/,
    ([, angled, bare]) => link(angled ?? bare, [angled ?? bare]),
  ],
  [/\|\|(.+?)\|\|/s, ([, text], context) => spoiler(text, context)],
  [/\*\*\*(.+?)\*\*\*/s, ([, text], context) => h("strong", {}, h("em", {}, inline(text, context)))],
  [/\*\*(.+?)\*\*(?!\*)/s, ([, text], context) => h("strong", {}, inline(text, context))],
  [/__(.+?)__(?!_)/s, ([, text], context) => h("u", {}, inline(text, context))],
  [/~~(.+?)~~/s, ([, text], context) => h("s", {}, inline(text, context))],
  [/\*(?!\s)([^*\n]+?)(?<!\s)\*/, ([, text], context) => h("em", {}, inline(text, context))],
  [/(?<![\w])_(?!\s)([^_\n]+?)_(?!\w)/, ([, text], context) => h("em", {}, inline(text, context))],
];

function inline(text, context) {
  const out = [];
  let rest = text;
  while (rest) {
    const found = earliest(rest);
    if (!found) return [...out, ...withBreaks(rest)];
    const { match, render } = found;
    out.push(...withBreaks(rest.slice(0, match.index)), ...[render(match, context)].flat());
    rest = rest.slice(match.index + match[0].length);
  }
  return out;
}

function earliest(text) {
  let best = null;
  for (const [pattern, render] of INLINE) {
    const match = pattern.exec(text);
    if (match && (!best || match.index < best.match.index)) best = { match, render };
  }
  return best;
}

const withBreaks = (text) => text.split("\n").flatMap((line, index) => (index ? [h("br"), line] : [line]));

const mention = (sign, name, id) => h("span.mention", { title: id }, sign + (name ?? "unknown"));

const link = (url, label) => h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, label);

function timestamp(epoch, style) {
  const date = new Date(epoch * 1000);
  const attributes = {
    datetime: date.toISOString(),
    title: fullDate(date),
    "data-relative": style === "R" ? epoch : null,
  };
  return h("time", attributes, formatTimestamp(epoch, style));
}

function spoiler(text, context) {
  const name = `${context.scope}:text:${context.spoilers++}`;
  const content = inline(text, context);
  if (context.revealed.has(name)) return h("span.spoiler-text.open", {}, content);
  return h(
    "span.spoiler-text",
    {
      role: "button",
      tabindex: "0",
      "aria-label": "Spoiler, press to show",
      "data-action": "reveal",
      "data-spoiler": name,
    },
    content,
  );
}
