// The listbox above the composer. Focus stays in the text; aria-activedescendant tells which option is active.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { appBadge } from "./people.js";

/** `onPick(item)` runs when an option is chosen by mouse, or through `pickActive` by keyboard. */
export function createPicker(input, onPick) {
  const list = h("div.picker-options", { role: "listbox", id: "picker-options", "aria-label": "Suggestions" });
  const heading = h("div.picker-heading");
  const element = h("div.picker", { hidden: true }, heading, list);
  let items = [];
  let active = -1;

  // A press must not take the focus out of the text.
  element.addEventListener("mousedown", (event) => event.preventDefault());
  list.addEventListener("click", ({ target }) => {
    const option = target.closest("[role=option]");
    if (option) onPick(items[Number(option.dataset.index)]);
  });

  /** Shows `suggestion`, or hides with null. */
  function show(suggestion) {
    element.hidden = !suggestion;
    items = suggestion?.items ?? [];
    active = suggestion?.preselect && items.length ? 0 : -1;
    list.hidden = !items.length;
    if (!suggestion) return mark();
    const status = suggestion.busy ? "Loading…" : suggestion.hint;
    heading.replaceChildren(h("strong", {}, suggestion.heading), " ", status);
    list.replaceChildren(...items.map(option));
    mark();
  }

  function mark() {
    [...list.children].forEach((child, index) => child.setAttribute("aria-selected", index === active));
    const current = list.children[active];
    if (current) {
      input.setAttribute("aria-activedescendant", current.id);
      current.scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }

  return {
    element,
    show,
    get open() {
      return !element.hidden;
    },
    get hasActive() {
      return active >= 0;
    },
    move(by) {
      if (!items.length) return false;
      active = active < 0 ? (by > 0 ? 0 : items.length - 1) : (active + by + items.length) % items.length;
      mark();
      return true;
    },
    /** Chooses the active option, or the first one; false when there is none. */
    pick() {
      if (!items.length) return false;
      onPick(items[Math.max(active, 0)]);
      return true;
    },
  };
}

function option(item, index) {
  const attributes = {
    role: "option",
    id: `picker-option-${index}`,
    "data-index": index,
    "aria-label": [item.label, item.detail].filter(Boolean).join(": "),
  };
  return h(`div.picker-option.${item.kind}`, attributes, BODIES[item.kind](item));
}

const BODIES = {
  command: ({ label, detail, options }) => [
    h("span.picker-bot", {}, icon("spark")),
    h(
      "div.picker-text",
      {},
      h(
        "div.picker-command",
        {},
        h("strong", {}, label),
        options
          .slice(0, 8)
          .map(({ name, required }) => h(`span.picker-parameter${required ? ".required" : ""}`, {}, name)),
      ),
      h("div.muted", {}, detail),
    ),
    appBadge(),
  ],
  option: ({ label, detail }) => [icon("plus"), h("strong", {}, label), h("span.muted", {}, detail)],
  choice: ({ label, detail }) => [h("strong", {}, label), h("span.muted", {}, detail)],
};
