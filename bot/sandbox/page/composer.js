// The line where one writes. The text is the whole truth: chips are painted behind it and the picker edits it.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { CommandError, entries, looseValues, parse, values } from "./commands.js";
import { createPicker } from "./picker.js";
import { suggest } from "./suggestions.js";

const AUTOCOMPLETE_DELAY_MS = 150;

/** Fills `form`. `send` gives the async {command(entry, options), message(text), autocomplete(entry, options, focused)}. */
export function createComposer(form, store, send) {
  const input = h("textarea", {
    rows: 1,
    id: "composer-input",
    "aria-autocomplete": "list",
    "aria-controls": "picker-options",
    "aria-describedby": "composer-error",
    autocomplete: "off",
    spellcheck: "false",
    enterkeyhint: "send",
  });
  const mirror = h("div.mirror", { "aria-hidden": "true" });
  const error = h("p.composer-error", { id: "composer-error", role: "alert", hidden: true });
  const button = h("button.icon-button", { type: "submit", "aria-label": "Send" }, icon("send"));
  const picker = createPicker(input, insert);
  form.append(picker.element, error, h("div.composer-box", {}, h("div.composer-text", {}, mirror, input), button));

  let sending = false;
  let dismissed = false;
  let lastSent = "";
  let lastPlace = "";
  let shown = "";
  let completions = { key: null, choices: null };

  const available = () => entries(store.usableCommands);

  input.addEventListener("input", () => {
    dismissed = false;
    showError("");
    refresh();
  });
  // Also typing fires this, later; what is shown already must not be shown anew, or the active option would be lost.
  document.addEventListener("selectionchange", () => {
    if (document.activeElement === input && shown !== whereCaretIs()) refresh();
  });
  input.addEventListener("focus", refresh);
  input.addEventListener("blur", () => picker.show(null));
  input.addEventListener("keydown", onKey);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });

  const whereCaretIs = () => `${input.selectionStart} ${input.value}`;

  function refresh() {
    const text = input.value;
    shown = whereCaretIs();
    const parsed = text.startsWith("/") ? parse(text, available()) : null;
    mirror.replaceChildren(...paint(text, parsed));
    mirror.parentElement.classList.toggle("commanding", Boolean(parsed));
    const focused = document.activeElement === input && !dismissed;
    picker.show(focused ? suggest(text, input.selectionStart, suggestionContext(parsed)) : null);
  }

  function suggestionContext(parsed) {
    const names = {
      users: [...store.users.values()].map((user) => store.nameOf(user)),
      roles: store.roles.map(({ name }) => name),
      channels: store.channels.map(({ name }) => name),
    };
    return { entries: available(), names, choices: (field) => complete(parsed, field) };
  }

  /** The bot's suggestions for a field, or null until they come. */
  function complete(parsed, { option }) {
    const options = looseValues(parsed);
    const key = JSON.stringify([parsed.entry.name, option.name, options]);
    if (completions.key === key) return completions.choices;
    const pending = (completions = { key, choices: null });
    setTimeout(async () => {
      if (completions !== pending) return;
      pending.choices = await send.autocomplete(parsed.entry, options, option.name).catch(() => []);
      if (completions === pending) refresh();
    }, AUTOCOMPLETE_DELAY_MS);
    return null;
  }

  function insert({ insert: { start, end, text, caret, spaced } }) {
    const rest = input.value.slice(end);
    const padding = spaced && !/\s$/.test(input.value.slice(0, start)) ? " " : "";
    input.focus();
    input.setSelectionRange(start, end);
    input.setRangeText(padding + text, start, end, "end");
    if (caret !== undefined) input.setSelectionRange(start + caret, start + caret);
    else if (rest) input.setSelectionRange(start + padding.length + text.length, start + padding.length + text.length);
    input.dispatchEvent(new Event("input"));
  }

  function onKey(event) {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (KEYS[event.key]?.(event)) event.preventDefault();
  }

  // Each answers whether it used the key up.
  const KEYS = {
    ArrowDown: () => picker.open && picker.move(1),
    ArrowUp: () => (picker.open ? picker.move(-1) : recall()),
    Tab: ({ shiftKey }) => !shiftKey && picker.open && picker.pick(),
    Escape: () => picker.open && hidePicker(),
    Enter: ({ shiftKey }) => {
      if (shiftKey) return false;
      if (!(picker.open && picker.hasActive && !commandComplete() && picker.pick())) submit();
      return true;
    },
  };

  /** "/help" and Enter runs it rather than choosing it from the list. */
  function commandComplete() {
    const parsed = parse(input.value, available());
    return (
      parsed && input.selectionStart <= parsed.commandEnd && !parsed.entry.options.some(({ required }) => required)
    );
  }

  function hidePicker() {
    dismissed = true;
    picker.show(null);
    return true;
  }

  function recall() {
    if (input.value || !lastSent) return false;
    setText(lastSent);
    return true;
  }

  function setText(text, caret = text.length) {
    input.value = text;
    input.setSelectionRange(caret, caret);
    input.dispatchEvent(new Event("input"));
  }

  async function submit() {
    const text = input.value.trim();
    if (!text || sending) return;
    sending = true;
    try {
      await (text.startsWith("/") ? runCommand(text) : send.message(text));
      lastSent = text;
      setText("");
    } catch (refused) {
      hidePicker();
      showError(refused.message);
    } finally {
      sending = false;
    }
  }

  async function runCommand(text) {
    const parsed = parse(text, available());
    if (!parsed) throw new CommandError(`There is no command ${text.split(/\s/)[0]}. Type / to see what there is.`);
    await send.command(parsed.entry, values(parsed, finders(store)));
  }

  function showError(sentence) {
    error.textContent = sentence;
    error.hidden = !sentence;
    input.setAttribute("aria-invalid", Boolean(sentence));
  }

  return {
    focus: () => input.focus(),
    /** Puts a command to start from into the line. */
    fill({ text, caret }) {
      input.focus();
      setText(text, caret);
    },
    render() {
      // What was wrong for one person need not be for another.
      const place = `${store.me.id} ${store.channelId}`;
      if (place !== lastPlace) showError("");
      lastPlace = place;
      const label = `Message #${store.channel?.name ?? ""}`;
      input.setAttribute("aria-label", label);
      input.disabled = !store.maySend;
      if (input.disabled) input.placeholder = "You may not write in this channel.";
      else input.placeholder = available().length ? `${label}, or type / for commands` : label;
    },
  };
}

/** The text again, with chips behind command and options; it must measure exactly like the text itself. */
function paint(text, parsed) {
  if (!parsed) return [text, "\u200b"];
  const parts = [h("span.chip-command", {}, text.slice(0, parsed.commandEnd))];
  let at = parsed.commandEnd;
  for (const { start, valueStart, end } of parsed.fields) {
    parts.push(
      text.slice(at, start),
      h("span.chip", {}, h("span.chip-name", {}, text.slice(start, valueStart)), text.slice(valueStart, end)),
    );
    at = end;
  }
  return [...parts, text.slice(at), "\u200b"];
}

function finders(store) {
  const plain = (text) =>
    text
      .replace(/^(<[@#]&?!?|[@#])/, "")
      .replace(/>$/, "")
      .toLowerCase();
  const find = (list, nameOf) => (text) =>
    list.find((each) => each.id === plain(text) || nameOf(each).toLowerCase() === plain(text))?.id ?? null;
  const users = [...store.users.values()];
  return {
    user: (text) => find(users, (user) => store.nameOf(user))(text) ?? find(users, (user) => user.username)(text),
    role: find(store.roles, ({ name }) => name),
    channel: find(store.channels, ({ name }) => name),
  };
}
