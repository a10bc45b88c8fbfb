// Dates as people read them in a chat.

const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const UNITS = [
  ["year", 31536000],
  ["month", 2592000],
  ["week", 604800],
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];

const FORMATS = {
  t: { timeStyle: "short" },
  T: { timeStyle: "medium" },
  d: { dateStyle: "short" },
  D: { dateStyle: "long" },
  f: { dateStyle: "long", timeStyle: "short" },
  F: { dateStyle: "full", timeStyle: "short" },
};

/** Text of `<t:epoch:style>`, `epoch` in seconds. */
export function formatTimestamp(epoch, style = "f") {
  if (style === "R") return relative(epoch);
  return new Intl.DateTimeFormat(undefined, FORMATS[style] ?? FORMATS.f).format(new Date(epoch * 1000));
}

function relative(epoch) {
  const seconds = epoch - Date.now() / 1000;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS.at(-1);
  return RELATIVE.format(Math.round(seconds / size), unit);
}

export const clock = (date) => new Intl.DateTimeFormat(undefined, { timeStyle: "short" }).format(date);
export const dayName = (date) => new Intl.DateTimeFormat(undefined, { dateStyle: "long" }).format(date);
export const fullDate = (date) =>
  new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" }).format(date);

/** "Today at 14:05", "Yesterday at 9:30" or a date with its time. */
export function messageTime(date) {
  const days = Math.round((startOfDay(new Date()) - startOfDay(date)) / 86400000);
  if (days === 0) return `Today at ${clock(date)}`;
  if (days === 1) return `Yesterday at ${clock(date)}`;
  return new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "short" }).format(date);
}

export const startOfDay = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());
