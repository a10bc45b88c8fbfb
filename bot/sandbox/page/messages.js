// The message list of the open channel: grouping, day lines, following the newest, and what presses in it mean.

import { h, morph } from "./dom.js";
import { icon } from "./icons.js";
import { renderMessage } from "./message.js";
import { dayName, startOfDay } from "./time.js";

const GROUP_MS = 7 * 60 * 1000;
const NEAR_END_PX = 120;

/**
 * Shows `store`'s open channel. `actions` are called with (element pressed, message):
 * {press, select, menu, zoom, reveal, dismiss, jump}.
 * Answers {render(), follow()}; `follow` goes to the newest message and stays with what comes.
 */
export function createMessageList({ log, list, jump }, store, actions) {
  let channelShown = null;
  let following = true;

  list.addEventListener("click", ({ target }) => act(target.closest("[data-action]")));
  list.addEventListener("keydown", (event) => {
    const spoiler = event.target.closest("[role=button]");
    if (!spoiler || (event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    act(spoiler);
  });
  log.addEventListener("scroll", () => {
    following = distanceToEnd() < NEAR_END_PX;
    if (following) jump.hidden = true;
  });
  new ResizeObserver(() => following && scrollToEnd()).observe(list);
  new ResizeObserver(() => following && scrollToEnd()).observe(log);
  jump.append("Newest messages", icon("arrowDown"));
  jump.addEventListener("click", scrollToEnd);

  function act(element) {
    if (!element || element.ariaBusy === "true") return;
    const id = element.closest("[data-message-id]").dataset.messageId;
    actions[element.dataset.action](element, store.message(id));
  }

  const distanceToEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight;

  function scrollToEnd() {
    following = true;
    log.scrollTop = log.scrollHeight;
  }

  function render() {
    const switched = channelShown !== store.channelId;
    const before = list.lastElementChild?.dataset.key;
    channelShown = store.channelId;
    log.setAttribute("aria-label", `Messages in ${store.channel?.name ?? "no channel"}`);
    if (switched) list.replaceChildren();
    update(list, items(store));
    if (switched || following) scrollToEnd();
    else if (list.lastElementChild?.dataset.key !== before) jump.hidden = false;
  }

  return { render, follow: scrollToEnd };
}

function items(store) {
  const out = [];
  let previous = null;
  for (const message of store.visibleMessages) {
    const day = startOfDay(new Date(message.timestamp));
    const newDay = !previous || Number(startOfDay(new Date(previous.timestamp))) !== Number(day);
    if (newDay) out.push(h("li.day", { "data-key": `day-${Number(day)}` }, h("span", {}, dayName(day))));
    out.push(renderMessage(message, store, { grouped: !newDay && belongsUnder(previous, message) }));
    previous = message;
  }
  return out;
}

function belongsUnder(previous, message) {
  const hasOwnLine = message.interaction_metadata || message.message_reference;
  const near = new Date(message.timestamp) - new Date(previous.timestamp) < GROUP_MS;
  return !hasOwnLine && near && previous.author?.id === message.author?.id && previous.flags === message.flags;
}

/** Puts `next` into `list` by key, morphing what is there: a deleted message must not move the others' state. */
function update(list, next) {
  const present = new Map([...list.children].map((child) => [child.dataset.key, child]));
  const wanted = new Set(next.map((child) => child.dataset.key));
  for (const [key, child] of present) if (!wanted.has(key)) child.remove();
  next.forEach((child, position) => {
    const old = present.get(child.dataset.key);
    const node = old ? morph(old, child) : child;
    if (list.children[position] !== node) list.insertBefore(node, list.children[position] ?? null);
  });
}
