// The grammar of a typed command: `/imagine a red apple seed: 7`. Pure functions, no page.

export const Option = {
  SUBCOMMAND: 1,
  GROUP: 2,
  STRING: 3,
  INTEGER: 4,
  BOOLEAN: 5,
  USER: 6,
  CHANNEL: 7,
  ROLE: 8,
  MENTIONABLE: 9,
  NUMBER: 10,
  ATTACHMENT: 11,
};

/** What is wrong with a typed command, as a sentence. */
export class CommandError extends Error {}

/**
 * Registered commands as one can type them, one entry for each subcommand:
 * {name: "checkpoint use", command, subcommand, description, options}; required options come first.
 */
export function entries(commands) {
  return commands
    .flatMap((command) => leaves(command, []).map((leaf) => ({ ...leaf, command: command.name })))
    .sort((a, b) => a.name.localeCompare(b.name));
}

function leaves({ name, description, options = [] }, path) {
  const below = options.filter(({ type }) => type === Option.SUBCOMMAND || type === Option.GROUP);
  const here = [...path, name];
  if (below.length) return below.flatMap((option) => leaves(option, here));
  const ordered = [...options].sort((a, b) => Number(b.required ?? false) - Number(a.required ?? false));
  return [{ name: here.join(" "), subcommand: here.slice(1).join(" ") || undefined, description, options: ordered }];
}

/**
 * Finds the command of `text` and where its options and their values lie; null while none is named in full.
 * Text before the first option belongs to the command's only required text option.
 * A field is {option, start, valueStart, end, value}; `start` is where its name begins, or its value if it has none.
 */
export function parse(text, all) {
  const entry = all
    .filter(({ name }) => text.startsWith(`/${name}`) && /^(\s|$)/.test(text.slice(name.length + 1)))
    .sort((a, b) => b.name.length - a.name.length)[0];
  if (!entry) return null;
  const from = entry.name.length + 1;
  const fields = namedFields(text, from, entry);
  const freeEnd = fields[0]?.start ?? text.length;
  const free = fieldAt(text, from, from, freeEnd, null);
  if (!free.value) return { entry, commandEnd: from, fields, stray: "" };
  const taker = freeTextOption(entry);
  if (!taker || fields.some(({ option }) => option === taker))
    return { entry, commandEnd: from, fields, stray: free.value };
  return { entry, commandEnd: from, fields: [{ ...free, option: taker }, ...fields], stray: "" };
}

function namedFields(text, from, { options }) {
  if (!options.length) return [];
  const names = options.map(({ name }) => name).sort((a, b) => b.length - a.length);
  const pattern = new RegExp(`(?<=\\s)(${names.map(escape).join("|")}):`, "g");
  pattern.lastIndex = from;
  const found = [];
  for (const match of text.matchAll(pattern)) {
    // A second "seed:" is a part of the value it stands in.
    if (!found.some(({ name }) => name === match[1]))
      found.push({ name: match[1], start: match.index, valueStart: match.index + match[0].length });
  }
  return found.map(({ name, start, valueStart }, index) =>
    fieldAt(
      text,
      start,
      valueStart,
      found[index + 1]?.start ?? text.length,
      options.find((option) => option.name === name),
    ),
  );
}

function fieldAt(text, start, valueStart, end, option) {
  const raw = text.slice(valueStart, end);
  const lead = raw.length - raw.trimStart().length;
  const value = raw.trim();
  const trimmedStart = value ? valueStart + lead : valueStart;
  return {
    option,
    start: start === valueStart ? trimmedStart : start,
    valueStart: trimmedStart,
    end: value ? trimmedStart + value.length : valueStart,
    value,
  };
}

function freeTextOption({ options }) {
  const required = options.filter((option) => option.required && option.type === Option.STRING);
  return required.length === 1 ? required[0] : null;
}

const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Option values to send; throws CommandError. `find` turns names into ids or null: {user, role, channel}(text). */
export function values({ entry, fields, stray }, find) {
  if (stray && !entry.options.length) throw new CommandError(`/${entry.name} takes no options.`);
  if (stray) throw new CommandError(`Say which option “${shorten(stray)}” is for, such as ${entry.options[0].name}:`);
  for (const option of entry.options) {
    const given = fields.find((field) => field.option === option)?.value;
    if (option.required && !given) throw new CommandError(`/${entry.name} needs a ${option.name}.`);
  }
  return Object.fromEntries(
    fields.filter(({ value }) => value).map(({ option, value }) => [option.name, convert(option, value, find)]),
  );
}

/** The values typed so far, whether valid or not, for autocomplete. */
export const looseValues = ({ fields }) => Object.fromEntries(fields.map(({ option, value }) => [option.name, value]));

function convert(option, text, find) {
  const { name, choices } = option;
  if (choices?.length) {
    const choice = choices.find(
      (each) => each.name.toLowerCase() === text.toLowerCase() || String(each.value) === text,
    );
    if (!choice) throw new CommandError(`${name} is one of: ${choices.map((each) => each.name).join(", ")}.`);
    return choice.value;
  }
  switch (option.type) {
    case Option.STRING:
      return checkLength(option, text);
    case Option.INTEGER:
      if (!/^[+-]?\d+$/.test(text)) throw new CommandError(`${name} must be a whole number.`);
      return checkRange(option, Number(text));
    case Option.NUMBER:
      if (!Number.isFinite(Number(text))) throw new CommandError(`${name} must be a number.`);
      return checkRange(option, Number(text));
    case Option.BOOLEAN:
      if (!/^(true|false|yes|no)$/i.test(text)) throw new CommandError(`${name} must be true or false.`);
      return /^(true|yes)$/i.test(text);
    case Option.USER:
      return resolve(find.user(text), name, "user");
    case Option.CHANNEL:
      return resolve(find.channel(text), name, "channel");
    case Option.ROLE:
      return resolve(find.role(text), name, "role");
    case Option.MENTIONABLE:
      return resolve(find.user(text) ?? find.role(text), name, "user or role");
    default:
      throw new CommandError(`${name} takes a file, which this page cannot attach yet.`);
  }
}

function checkLength({ name, min_length = 0, max_length = Infinity }, text) {
  if (text.length < min_length) throw new CommandError(`${name} must have at least ${min_length} characters.`);
  if (text.length > max_length)
    throw new CommandError(`${name} may have at most ${max_length} characters; this has ${text.length}.`);
  return text;
}

function checkRange({ name, min_value = -Infinity, max_value = Infinity }, number) {
  if (number < min_value || number > max_value)
    throw new CommandError(`${name} must be ${range(min_value, max_value)}.`);
  return number;
}

export function range(min, max) {
  if (max === Infinity) return `at least ${min}`;
  return min === -Infinity ? `at most ${max}` : `between ${min} and ${max}`;
}

function resolve(id, name, kind) {
  if (!id) throw new CommandError(`${name} must name a ${kind}.`);
  return id;
}

const shorten = (text) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);
