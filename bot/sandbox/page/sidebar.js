// Everything around the conversation: server, channels, members, and whom one acts as.

import { h, morphChildren } from "./dom.js";
import { icon } from "./icons.js";
import { choose } from "./menu.js";
import { appBadge, avatar, nameColour, rolesOf } from "./people.js";

/** `actions` gives {openChannel(id), actAs(userId)}. Answers the function that draws it all. */
export function createSidebar(elements, store, actions) {
  const { rail, guildName, channelList, userPanel, header, members, frame, scrim } = elements;

  channelList.addEventListener("click", ({ target }) => {
    const channel = target.closest("[data-channel-id]");
    if (!channel) return;
    frame.classList.remove("navigating");
    actions.openChannel(channel.dataset.channelId);
  });
  userPanel.addEventListener("click", async ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const chosen = await choose(button, { label: "Act as", choices: people(store), selected: [store.me.id] });
    if (chosen && chosen[0] !== store.me.id) actions.actAs(chosen[0]);
  });
  header.addEventListener("click", ({ target }) => {
    const toggle = target.closest("[data-toggle]")?.dataset.toggle;
    if (toggle) frame.classList.toggle(toggle);
    render();
  });
  scrim.addEventListener("click", closeDrawers);
  frame.addEventListener("keydown", ({ key }) => key === "Escape" && closeDrawers());

  function closeDrawers() {
    frame.classList.remove("navigating");
    render();
  }

  function render() {
    const { channel, guild } = store;
    morphChildren(rail, [h("span.guild-icon", { title: guild.name, "aria-hidden": "true" }, initials(guild.name))]);
    guildName.textContent = guild.name;
    morphChildren(channelList, [
      ...channelGroup("Text channels", 0, store),
      ...channelGroup("Direct messages", 1, store),
    ]);
    morphChildren(userPanel, [userButton(store)]);
    morphChildren(header, channelHeader(channel, frame));
    morphChildren(members, memberGroups(store));
  }

  return render;
}

const initials = (name) =>
  name
    .split(/\s+/)
    .map((word) => word[0])
    .join("")
    .slice(0, 3);

function channelGroup(title, type, store) {
  const group = store.channels.filter((channel) => channel.type === type);
  if (!group.length) return [];
  return [
    h("h2.list-heading", {}, title),
    h(
      "ul",
      {},
      group.map((each) => h("li", {}, channelButton(each, store))),
    ),
  ];
}

function channelButton({ id, name, nsfw }, store) {
  const current = id === store.channelId;
  const unread = store.unread.has(id);
  return h(
    `button.channel${unread ? ".unread" : ""}`,
    { type: "button", "data-channel-id": id, "aria-current": current ? "true" : null },
    icon("hash"),
    h("span", {}, name),
    nsfw ? h("span.tag", { title: "Age-restricted channel" }, "18+") : null,
    unread ? h("span.visually-hidden", {}, "unread messages") : null,
  );
}

function userButton(store) {
  const { me } = store;
  return h(
    "button.user-button",
    { type: "button", "aria-haspopup": "listbox", "aria-label": `Acting as ${store.nameOf(me)}, switch user` },
    avatar(me),
    h("span.user-text", {}, h("strong", {}, store.nameOf(me)), h("span.muted", {}, rolesOf(me))),
    icon("swap"),
  );
}

const people = (store) =>
  [...store.users.values()]
    .filter(({ bot }) => !bot)
    .map((user) => ({ value: user.id, label: store.nameOf(user), description: rolesOf(user), lead: avatar(user) }));

function channelHeader(channel, frame) {
  const has = (name) => frame.classList.contains(name);
  const toggle = (name, label, glyph, expanded) =>
    h(
      `button.icon-button.${glyph}-toggle`,
      { type: "button", "data-toggle": name, "aria-label": label, "aria-expanded": String(expanded) },
      icon(glyph),
    );
  return [
    toggle("navigating", "Show channels", "menu", has("navigating")),
    h("h2.channel-name", {}, icon("hash"), channel?.name ?? ""),
    h("p.topic", {}, channel?.topic ?? ""),
    toggle("members-hidden", "Show members", "members", !has("members-hidden")),
  ];
}

function memberGroups(store) {
  const groups = new Map();
  for (const user of store.users.values()) {
    const name = user.bot ? "Apps" : (user.roles[0]?.name ?? "Members");
    groups.set(name, [...(groups.get(name) ?? []), user]);
  }
  return [...groups].map(([name, users]) =>
    h(
      "section",
      {},
      h("h2.list-heading", {}, `${name} — ${users.length}`),
      h(
        "ul",
        {},
        users.map((user) =>
          h(
            `li.member${user.bot && !store.botOnline ? ".absent" : ""}`,
            {},
            avatar(user),
            h("span.member-name", { style: nameColour(user) }, store.nameOf(user)),
            user.bot ? appBadge() : null,
          ),
        ),
      ),
    ),
  );
}
