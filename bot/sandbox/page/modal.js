// A form a bot opens: text inputs, selects and texts in a dialog.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { Type, isSelect } from "./components.js";
import { markdown } from "./markdown.js";
import { choicesOf, chooseFor, initialValues } from "./selects.js";

const PARAGRAPH = 2;

/** Shows `modal` ({title, custom_id, components}); `submit(fields)` may throw an error whose message is then shown. */
export function openModal(modal, store, submit) {
  /** custom id -> {value(), problem()} */
  const fields = {};
  const error = h("p.failure", { role: "alert", hidden: true });
  const send = h("button.button.primary", { type: "submit" }, "Submit");
  const dialog = h(
    "dialog.modal",
    { "aria-labelledby": "modal-title", onclose: () => dialog.remove() },
    h(
      "form",
      { method: "dialog", onsubmit: onSubmit },
      h(
        "header",
        {},
        h("h2", { id: "modal-title" }, modal.title),
        h(
          "button.icon-button",
          { type: "button", "aria-label": "Close", onclick: () => dialog.close() },
          icon("close"),
        ),
      ),
      h(
        "div.modal-body",
        {},
        modal.components.map((component, index) => row(component, `field-${index}`, fields, store)),
        error,
      ),
      h("footer", {}, h("button.button.secondary", { type: "button", onclick: () => dialog.close() }, "Cancel"), send),
    ),
  );

  async function onSubmit(event) {
    event.preventDefault();
    const problem = Object.values(fields)
      .map((each) => each.problem())
      .find(Boolean);
    if (problem) return complain(problem);
    send.disabled = true;
    try {
      await submit(Object.fromEntries(Object.entries(fields).map(([customId, { value }]) => [customId, value()])));
      dialog.close();
    } catch (refused) {
      complain(refused.message);
      send.disabled = false;
    }
  }

  function complain(sentence) {
    error.textContent = sentence;
    error.hidden = false;
  }

  document.body.append(dialog);
  dialog.showModal();
  dialog.querySelector("input, textarea, .select")?.focus();
}

/** One row of the form; every input puts how to read it into `fields`. */
function row(component, id, fields, store) {
  switch (component.type) {
    case Type.ACTION_ROW:
      return component.components.map((inner, index) => row(inner, `${id}-${index}`, fields, store));
    case Type.LABEL:
      return field(component, component.component, id, fields, store);
    case Type.TEXT_DISPLAY:
      return h("div.text", {}, markdown(component.content, { names: store.names }));
    default:
      return field(component, component, id, fields, store);
  }
}

function field({ label, description }, component, id, fields, store) {
  const required = component.required !== false;
  const control = isSelect(component)
    ? select(component, id, label, required, fields, store)
    : textInput(component, id, required, fields);
  return h(
    "div.field",
    {},
    h(
      "label",
      { for: id },
      label ?? component.placeholder ?? "",
      required ? h("span.required", { title: "required" }, " *") : null,
    ),
    description ? h("p.muted", { id: `${id}-description` }, description) : null,
    control,
  );
}

function textInput({ custom_id, style, placeholder, value, min_length, max_length }, id, required, fields) {
  const long = style === PARAGRAPH;
  const input = h(long ? "textarea" : "input", {
    id,
    type: long ? null : "text",
    rows: long ? 4 : null,
    placeholder,
    required,
    minlength: min_length || null,
    maxlength: max_length,
    autocomplete: "off",
    "aria-describedby": `${id}-description`,
  });
  input.value = value ?? "";
  // The browser itself checks length and presence.
  fields[custom_id] = { value: () => input.value, problem: () => null };
  return input;
}

function select(component, id, label, required, fields, store) {
  let values = initialValues(component);
  const text = h("span");
  const prompt = component.placeholder || "Make a selection";
  const button = h(
    "button.select",
    { type: "button", id, "aria-haspopup": "listbox", onclick: open },
    text,
    icon("down"),
  );

  async function open() {
    values = (await chooseFor(component, button, store, values)) ?? values;
    show();
  }

  function show() {
    const labels = choicesOf(component, store)
      .filter(({ value }) => values.includes(value))
      .map(({ label }) => label);
    text.textContent = labels.join(", ") || prompt;
    text.classList.toggle("placeholder", !labels.length);
  }

  show();
  fields[component.custom_id] = {
    value: () => values,
    problem: () => (required && !values.length ? `${label ?? prompt} needs a choice.` : null),
  };
  return button;
}
