// What a select component offers: its own options, or the people, roles and channels of the server.

import { choose } from "./menu.js";
import { Type, emojiOf } from "./components.js";
import { avatar } from "./people.js";

/** Opens the menu of a select component at `anchor`; resolves to its values or null. */
export function chooseFor(component, anchor, store, selected = initialValues(component)) {
  const { placeholder, min_values: min = 1, max_values: max = 1 } = component;
  return choose(anchor, {
    label: placeholder || "Make a selection",
    choices: choicesOf(component, store),
    selected,
    min,
    max,
  });
}

export const initialValues = ({ options = [], default_values = [] }) => [
  ...options.filter((option) => option.default).map(({ value }) => value),
  ...default_values.map(({ id }) => id),
];

export function choicesOf({ type, options = [] }, store) {
  const users = () =>
    [...store.users.values()].map((user) => ({
      value: user.id,
      label: store.nameOf(user),
      lead: avatar(user, "small"),
    }));
  const roles = () => store.roles.map(({ id, name }) => ({ value: id, label: `@${name}` }));
  switch (type) {
    case Type.USER_SELECT:
      return users();
    case Type.ROLE_SELECT:
      return roles();
    case Type.MENTIONABLE_SELECT:
      return [...users(), ...roles()];
    case Type.CHANNEL_SELECT:
      return store.channels.map(({ id, name }) => ({ value: id, label: `#${name}` }));
    default:
      return options.map(({ value, label, description, emoji }) => ({
        value,
        label,
        description,
        lead: emojiOf(emoji, true),
      }));
  }
}

/** The component with this custom id, wherever it lies in the tree. */
export function findComponent(tree, customId) {
  for (const component of tree) {
    if (component.custom_id === customId) return component;
    const inner = [...(component.components ?? []), component.component, component.accessory].filter(Boolean);
    const found = findComponent(inner, customId);
    if (found) return found;
  }
  return null;
}
