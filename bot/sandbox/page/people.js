// How people and the bot look.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { hex } from "./components.js";

/** Initials on the user's colour; the bot gets a drawing. */
export function avatar(user, size = "") {
  const name = user?.display_name || user?.global_name || user?.username || "?";
  const initials = name
    .split(/\s+/)
    .filter(Boolean)
    .slice(0, 2)
    .map((word) => [...word][0].toUpperCase())
    .join("");
  return h(
    `span.avatar${size ? `.${size}` : ""}${user?.bot ? ".bot" : ""}`,
    { "aria-hidden": "true", style: { "--avatar-color": colourOf(user) } },
    user?.bot ? icon("spark") : initials,
  );
}

export const appBadge = () => h("span.badge", {}, "APP");

function colourOf(user) {
  if (user?.avatar_color) return user.avatar_color;
  const hue = [...String(user?.id ?? "0")].reduce((sum, digit) => (sum * 31 + digit.charCodeAt(0)) % 360, 7);
  return `hsl(${hue} 45% 45%)`;
}

/** What a person is on this server, in a few words. */
export const rolesOf = ({ roles }) => roles.map(({ name }) => name).join(", ") || "Member";

/** Names wear the colour of the highest role that has one. */
export function nameColour({ roles = [] }) {
  const colour = roles.find(({ color }) => color)?.color;
  return colour ? { color: hex(colour) } : {};
}
