// The page: one store, the views that show it, and what the user's actions send.

import * as api from "./api.js";
import { createComposer } from "./composer.js";
import { entries } from "./commands.js";
import { h, morphChildren } from "./dom.js";
import { icon } from "./icons.js";
import { openLightbox } from "./lightbox.js";
import { createMessageList } from "./messages.js";
import { dots } from "./message.js";
import { choose } from "./menu.js";
import { openModal } from "./modal.js";
import { chooseFor, findComponent } from "./selects.js";
import { createSidebar } from "./sidebar.js";
import { commandText } from "./suggestions.js";
import { Store } from "./store.js";
import { formatTimestamp } from "./time.js";

const RELATIVE_TIMES_MS = 5000;

const element = (id) => document.getElementById(id);
const frame = document.querySelector(".frame");
const banner = document.querySelector(".banner");
const store = new Store();
let disconnect = () => {};

const composer = createComposer(element("composer"), store, {
  async command(entry, options) {
    messageList.follow();
    const here = { user: store.me.id, channel_id: store.channelId };
    const { interaction_id } = await api.runCommand({
      ...here,
      command: entry.command,
      subcommand: entry.subcommand,
      options,
    });
    store.expect(interaction_id, { name: entry.name, channelId: here.channel_id });
  },
  message(content) {
    messageList.follow();
    return api.sendMessage({ user: store.me.id, channel_id: store.channelId, content });
  },
  async autocomplete(entry, options, focused) {
    const { command, subcommand } = entry;
    const body = { user: store.me.id, channel_id: store.channelId, command, subcommand, options, focused };
    return (await api.autocomplete(body)).choices;
  },
});

const messageList = createMessageList(
  { log: element("log"), list: element("messages"), jump: element("jump") },
  store,
  {
    press: (button, message) => use(message, button.dataset.customId),
    async select(button, message) {
      const component = findComponent(message.components, button.dataset.customId);
      const values = await chooseFor(component, button, store);
      if (values) await use(message, component.custom_id, values);
    },
    async menu(button, message) {
      const choices = store.messageCommands.map((name) => ({ value: name, label: name }));
      const [command] = (await choose(button, { label: "Apps", choices })) ?? [];
      if (command) await act(message, api.useMenu, { command });
    },
    zoom: openLightbox,
    reveal(spoiler) {
      store.revealed.add(spoiler.dataset.spoiler);
      store.changed();
    },
    async dismiss(_, message) {
      // A note of this page's own is unknown to the server.
      if (!message.failure) await api.dismissMessage({ user: store.me.id, message_id: message.id }).catch(() => {});
      store.apply({ op: "message_delete", d: message });
      composer.focus();
    },
    jump(link) {
      const target = document.querySelector(`[data-message-id="${CSS.escape(link.dataset.target)}"]`);
      target?.scrollIntoView({ block: "center" });
      target?.animate([{ backgroundColor: "var(--highlight)" }, {}], { duration: 1500 });
    },
  },
);

const renderSidebar = createSidebar(
  {
    frame,
    scrim: element("scrim"),
    rail: element("rail"),
    guildName: element("guild-name"),
    channelList: element("channel-list"),
    userPanel: element("user-panel"),
    header: element("channel-header"),
    members: element("members"),
  },
  store,
  {
    openChannel(id) {
      store.open(id);
      remember();
      composer.focus();
    },
    actAs,
  },
);

/** Presses a button or sends a select's values. */
const use = (message, customId, values) => act(message, api.pressComponent, { custom_id: customId, values });

/** Does something to a message; failures show under it. */
async function act(message, send, body) {
  store.failures.delete(message.id);
  try {
    const { interaction_id } = await send({ user: store.me.id, message_id: message.id, ...body });
    store.expect(interaction_id, { messageId: message.id, customId: body.custom_id });
  } catch (refused) {
    store.failures.set(message.id, refused.message);
    store.changed();
  }
}

function onEvent(event) {
  if (event.op === "modal") return fillModal(event.d);
  if (event.op === "commands" || event.op === "channels")
    return api.fetchState(store.me.id).then((state) => store.offer(state));
  return store.apply(event);
}

function fillModal(modal) {
  const { interaction_id, custom_id } = modal;
  const channelId = store.channelId;
  openModal(modal, store, async (fields) => {
    const submitted = await api.submitModal({ user: store.me.id, interaction_id, custom_id, fields });
    store.expect(submitted.interaction_id, { channelId });
  });
}

function actAs(userId) {
  disconnect();
  store.channelId ??= inAddress("channel");
  disconnect = api.connectLive(userId, {
    async onOpen() {
      store.load(await api.fetchState(userId), userId);
      remember();
    },
    onEvent,
    onLost() {
      store.connected = false;
      store.changed();
    },
  });
}

// The address keeps user and channel, so that two windows can be two people.
function remember() {
  history.replaceState(null, "", `#user=${store.me.id}&channel=${store.channelId}`);
}
const inAddress = (name) => new URLSearchParams(location.hash.slice(1)).get(name);

function render() {
  if (!store.me) return;
  document.title = `#${store.channel?.name ?? ""} · ${store.guild.name}`;
  document.body.classList.toggle("offline", !store.connected);
  banner.dataset.status = store.connected ? "" : "Connection lost, trying again…";
  renderSidebar();
  renderWelcome();
  messageList.render();
  composer.render();
  renderTyping();
}

function renderWelcome() {
  const { channel } = store;
  // Commands outlive the connection, but nobody would answer them.
  const open = (store.botOnline ? store.usableCommands : []).filter(forEverybody);
  const offers = entries(open)
    .filter(({ subcommand }) => !subcommand)
    .sort(asksForTextFirst);
  morphChildren(element("welcome"), [
    h("span.welcome-icon", {}, icon("hash")),
    h("h2", {}, `Welcome to #${channel?.name ?? ""}`),
    h("p", {}, welcomeText(offers)),
    h(
      "div.offers",
      {},
      offers.map(({ name }) => h("button.offer", { type: "button", "data-command": name }, `/${name}`)),
    ),
  ]);
}

const forEverybody = ({ default_member_permissions: permissions }) => permissions == null;
const asksForText = ({ options }) => Number(options[0]?.required ?? false);
const asksForTextFirst = (a, b) => asksForText(b) - asksForText(a);

function welcomeText(offers) {
  if (!store.botOnline) return "The bot is not connected yet.";
  return offers.length
    ? "Type / to see what the bot can do, or start with one of these:"
    : "The bot has no commands here.";
}

element("welcome").addEventListener("click", ({ target }) => {
  const name = target.closest("[data-command]")?.dataset.command;
  const entry = entries(store.usableCommands).find((each) => each.name === name);
  if (entry) composer.fill(commandText(entry));
});

function renderTyping() {
  const names = store.typingUsers.map((user) => store.nameOf(user));
  const who = names.length > 2 ? "Several people are" : `${names.join(" and ")} ${names.length === 1 ? "is" : "are"}`;
  morphChildren(element("typing"), names.length ? [dots(), h("span", {}, `${who} typing…`)] : []);
}

// As in any chat, typing anywhere writes into the composer.
document.addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey, target }) => {
  const writes = key.length === 1 && key !== " " && !ctrlKey && !metaKey && !altKey;
  if (writes && !target.closest("input, textarea, dialog, .menu")) composer.focus();
});

setInterval(() => {
  for (const time of document.querySelectorAll("time[data-relative]")) {
    time.textContent = formatTimestamp(Number(time.dataset.relative), "R");
  }
}, RELATIVE_TIMES_MS);

store.subscribe(render);

async function start() {
  // An address from another sandbox may name somebody who does not exist here.
  const { user } = await api.fetchState(inAddress("user")).catch(() => api.fetchState());
  actAs(user);
  if (matchMedia("(hover: hover)").matches) composer.focus();
}

start().catch((refused) => (banner.dataset.status = refused.message));
