// One message, from Discord's message object to a list item.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { attachments } from "./media.js";
import { components, embed } from "./components.js";
import { markdown } from "./markdown.js";
import { appBadge, avatar, nameColour } from "./people.js";
import { clock, fullDate, messageTime } from "./time.js";
import { EPHEMERAL, LOADING } from "./store.js";

const MESSAGE_COMMAND = 3;

/** `grouped` messages stand under one of the same author and repeat neither avatar nor name. */
export function renderMessage(message, store, { grouped }) {
  const author = store.users.get(message.author?.id) ?? message.author;
  const ephemeral = Boolean(message.flags & EPHEMERAL);
  return h(
    `li.message${grouped ? ".grouped" : ""}${ephemeral ? ".ephemeral" : ""}`,
    { "data-message-id": message.id, "data-key": message.id, tabindex: "-1" },
    interactionLine(message, store) ?? replyLine(message, store),
    grouped ? h("span.gutter-time", { "aria-hidden": "true" }, clock(new Date(message.timestamp))) : avatar(author),
    h(
      "div.body",
      {},
      grouped ? null : header(message, author, store),
      content(message, store),
      failure(message, store),
      ephemeral ? ephemeralNote() : null,
    ),
    store.messageCommands.length && !ephemeral ? menuButton() : null,
  );
}

function header(message, author, store) {
  const sent = new Date(message.timestamp);
  return h(
    "h2.message-header",
    {},
    h("span.author", { style: nameColour(author) }, store.nameOf(message.author)),
    author?.bot ? appBadge() : null,
    h("time", { datetime: message.timestamp, title: fullDate(sent) }, messageTime(sent)),
    editedMark(message),
  );
}

const editedMark = ({ edited_timestamp }) =>
  edited_timestamp ? h("span.edited", { title: fullDate(new Date(edited_timestamp)) }, "(edited)") : null;

function interactionLine({ interaction_metadata: interaction }, store) {
  if (!interaction?.name || !interaction.user) return null;
  const { name } = interaction;
  return h(
    "div.context-line",
    {},
    h("span.elbow", { "aria-hidden": "true" }),
    whoActed(interaction.user, store),
    " used ",
    h("span.mention", {}, icon("spark"), interaction.command_type === MESSAGE_COMMAND ? name : `/${name}`),
  );
}

const whoActed = (user, store) => [
  avatar(store.users.get(user.id) ?? user, "tiny"),
  h("span.context-name", {}, store.nameOf(user)),
];

function replyLine({ message_reference, referenced_message, interaction_metadata: interaction }, store) {
  const id = message_reference?.message_id ?? interaction?.interacted_message_id;
  if (!id) return null;
  const target = referenced_message ?? store.message(id);
  return h(
    "div.context-line",
    {},
    h("span.elbow", { "aria-hidden": "true" }),
    interaction?.user ? [whoActed(interaction.user, store), " clicked in "] : null,
    h(
      "button.jump-link",
      { type: "button", "data-action": "jump", "data-target": id },
      target ? excerpt(target, store) : "a message that is gone",
    ),
  );
}

/** The first words of a message, wherever its text lies. */
function excerpt(message, store) {
  const text = [message.content, ...textsOf(message.components ?? [])].find(Boolean) ?? "";
  const shown = h("div", {}, markdown(text, { names: store.names }));
  const blocks = [...shown.querySelectorAll("p, li, h3, h4, h5, code")].map(({ textContent }) => textContent);
  return blocks[0]?.slice(0, 80) ?? `${store.nameOf(message.author)}'s message`;
}

const textsOf = (tree) => tree.flatMap(({ content, components: inner }) => [content, ...textsOf(inner ?? [])]);

function content(message, store) {
  if (message.flags & LOADING) return h("p.thinking", {}, dots(), `${store.nameOf(message.author)} is thinking…`);
  const context = contextOf(message, store);
  return [
    message.content ? h("div.text", {}, markdown(message.content, context)) : null,
    attachments(loose(message), context),
    (message.embeds ?? []).map((data) => embed(data, context)),
    components(message.components ?? [], context),
  ];
}

/** Attachments that no component shows already. */
function loose({ attachments: list = [], components: tree = [] }) {
  const isV2 = tree.some(({ type }) => type !== 1);
  return isV2 ? [] : list;
}

function contextOf(message, store) {
  const waiting = [...store.pending.values()].filter(({ messageId }) => messageId === message.id);
  return {
    scope: message.id,
    revealed: store.revealed,
    waiting: new Set(waiting.map(({ customId }) => customId)),
    names: store.names,
  };
}

export const dots = () => h("span.dots", { "aria-hidden": "true" }, h("i"), h("i"), h("i"));

function failure(message, store) {
  const sentence = message.failure ?? store.failures.get(message.id);
  return sentence ? h("p.failure", { role: "alert" }, icon("warning"), sentence) : null;
}

const menuButton = () =>
  h(
    "button.message-menu",
    { type: "button", "data-action": "menu", "aria-label": "Apps", "aria-haspopup": "listbox", title: "Apps" },
    icon("spark"),
  );

const ephemeralNote = () =>
  h(
    "p.ephemeral-note",
    {},
    icon("eye"),
    "Only you can see this • ",
    h("button.text-button", { type: "button", "data-action": "dismiss" }, "Dismiss message"),
  );
