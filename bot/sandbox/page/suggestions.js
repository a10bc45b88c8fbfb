// What the picker offers at the caret: commands, then options, then values. Pure functions, no page.

import { Option, parse, range } from "./commands.js";

/**
 * {heading, hint, items, preselect} for `text` with the caret at `caret`, or null when there is nothing to say.
 * An item is {kind, label, detail, insert: {start, end, text, caret}}; `preselect` makes Enter choose the first one.
 * `context` gives {entries, choices(field), names: {users, roles, channels}}, choices being the bot's autocompletion.
 */
export function suggest(text, caret, context) {
  if (!text.startsWith("/")) return null;
  const parsed = parse(text, context.entries);
  if (!parsed || caret <= parsed.commandEnd) return commandList(text, context.entries);
  const field = parsed.fields.find(
    ({ start, end }) => start <= caret && caret <= end + 1 && !startsNext(parsed, caret),
  );
  const choices = field ? valueItems(field, context) : null;
  const remaining = optionItems(text, parsed);
  const heading = `/${parsed.entry.name}`;
  if (choices) return { heading, hint: hintOf(field.option), ...choices };
  return {
    heading,
    hint: field ? hintOf(field.option) : parsed.entry.description,
    items: remaining,
    preselect: Boolean(remaining[0]?.required),
  };
}

const startsNext = ({ fields }, caret) =>
  fields.filter(({ start, end }) => start <= caret && caret <= end + 1).length > 1;

function commandList(text, entries) {
  const typed = text.slice(1).trimStart().toLowerCase();
  const matching = entries.filter(({ name }) => name.startsWith(typed));
  const others = entries.filter((entry) => !matching.includes(entry) && typed && entry.name.includes(typed));
  const items = [...matching, ...others].map((entry) => ({
    kind: "command",
    label: `/${entry.name}`,
    detail: entry.description,
    options: entry.options.map(({ name, required }) => ({ name, required })),
    insert: { start: 0, end: text.length, ...commandText(entry) },
  }));
  return { heading: "Commands", hint: items.length ? "" : "There is none of that name.", items, preselect: true };
}

/** The command with its required options, the caret in the first of them. */
export function commandText({ name, options }) {
  const required = options.filter((option) => option.required).map((option) => `${option.name}: `);
  const lead = `/${name} `;
  return { text: lead + required.join(" "), caret: lead.length + (required[0]?.length ?? 0) };
}

function optionItems(text, { entry, fields }) {
  const end = text.trimEnd().length;
  return entry.options
    .filter((option) => !fields.some((field) => field.option === option))
    .map((option) => ({
      kind: "option",
      label: option.name,
      detail: option.description,
      required: option.required,
      insert: { start: end, end: text.length, text: ` ${option.name}: ` },
    }));
}

function valueItems(field, context) {
  const { option, value } = field;
  const given = givenChoices(option, context);
  if (given) {
    const typed = value.toLowerCase();
    const exact = given.some(({ name }) => name.toLowerCase() === typed);
    const shown = exact ? given : given.filter(({ name }) => name.toLowerCase().includes(typed));
    return {
      items: shown.map((choice) => choiceItem(field, choice)),
      preselect: !exact && Boolean(value || option.required),
    };
  }
  if (!option.autocomplete) return null;
  const choices = context.choices(field);
  if (!choices) return { items: [], preselect: false, busy: true };
  // A suggestion is not a rule: Enter sends what was typed, Tab takes the suggestion.
  return { items: choices.map((choice) => choiceItem(field, choice)), preselect: !value && Boolean(option.required) };
}

/** The whole list of values an option may have, where it is known; null where it is free. */
function givenChoices({ type, choices }, { names }) {
  if (choices?.length) return choices;
  switch (type) {
    case Option.BOOLEAN:
      return [{ name: "true" }, { name: "false" }];
    case Option.USER:
      return names.users.map((name) => ({ name }));
    case Option.ROLE:
      return names.roles.map((name) => ({ name }));
    case Option.CHANNEL:
      return names.channels.map((name) => ({ name }));
    case Option.MENTIONABLE:
      return [...names.users, ...names.roles].map((name) => ({ name }));
    default:
      return null;
  }
}

function choiceItem({ valueStart, end, option }, { name, value }) {
  // Autocompleted choices carry a value of their own, which is what the bot wants to read.
  const text = option.autocomplete ? String(value) : name;
  return {
    kind: "choice",
    label: name,
    detail: option.autocomplete && text !== name ? text : "",
    insert: { start: valueStart, end: Math.max(end, valueStart), text: `${text}`, spaced: true },
  };
}

function hintOf({ name, description, type, min_value, max_value, max_length, required }) {
  const bounded = min_value !== undefined || max_value !== undefined;
  const limits = [
    type === Option.INTEGER ? "a whole number" : type === Option.NUMBER ? "a number" : null,
    bounded ? range(min_value ?? -Infinity, max_value ?? Infinity) : null,
    max_length ? `at most ${max_length} characters` : null,
    required ? null : "optional",
  ];
  const detail = limits.filter(Boolean).join(", ");
  return `${name}: ${description}${detail ? ` (${detail})` : ""}`;
}
