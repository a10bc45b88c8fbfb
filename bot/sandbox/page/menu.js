// A listbox that opens at a button: select menus of messages and modals, and the user switcher.

import { h } from "./dom.js";
import { icon } from "./icons.js";

const GAP_PX = 6;

/**
 * Lets the user choose from `choices` ({value, label, description, lead}) and resolves to the chosen values,
 * or to null when they leave. With `max` 1 a choice closes the menu; else Enter, Escape or a click outside does.
 */
export function choose(anchor, { label, choices, selected = [], min = 1, max = 1 }) {
  return new Promise((resolve) => {
    const multiple = max > 1;
    const chosen = new Set(selected);
    let active = Math.max(
      0,
      choices.findIndex(({ value }) => chosen.has(value)),
    );
    let typed = "";

    const options = choices.map((choice, index) =>
      h(
        "div.menu-option",
        {
          role: "option",
          id: `menu-option-${index}`,
          onclick: () => pick(index),
          onpointermove: () => highlight(index),
        },
        choice.lead ?? null,
        h(
          "div.menu-text",
          {},
          h("div", {}, choice.label),
          choice.description ? h("div.muted", {}, choice.description) : null,
        ),
        h("span.menu-check", {}, icon("check")),
      ),
    );
    const list = h(
      "div.menu",
      {
        role: "listbox",
        tabindex: "-1",
        "aria-label": label,
        "aria-multiselectable": multiple ? "true" : null,
        popover: "manual",
        onkeydown: onKey,
      },
      options.length ? options : h("div.menu-empty", {}, "Nothing to choose from"),
    );

    const host = anchor.closest("dialog") ?? document.body;
    host.append(list);
    list.showPopover();
    place(list, anchor);
    anchor.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", onOutside, true);
    list.addEventListener("focusout", onFocusOut);
    list.focus();
    refresh();

    function refresh() {
      options.forEach((option, index) => {
        option.setAttribute("aria-selected", chosen.has(choices[index].value));
        option.classList.toggle("active", index === active);
      });
      if (!options.length) return;
      list.setAttribute("aria-activedescendant", options[active].id);
      options[active].scrollIntoView({ block: "nearest" });
    }

    function highlight(index) {
      if (index === active) return;
      active = index;
      refresh();
    }

    function pick(index) {
      const { value } = choices[index];
      typed = "";
      if (!multiple) return finish([value]);
      if (!chosen.delete(value) && chosen.size < max) chosen.add(value);
      refresh();
    }

    function onKey(event) {
      const last = options.length - 1;
      const moves = { ArrowDown: Math.min(active + 1, last), ArrowUp: Math.max(active - 1, 0), Home: 0, End: last };
      if (event.key in moves) highlight(moves[event.key]);
      else if (event.key === "Enter" && multiple) leave();
      else if (event.key === "Enter" || event.key === " ") options.length && pick(active);
      else if (event.key === "Escape") finish(null);
      else if (event.key === "Tab") return leave();
      else if (event.key.length === 1) jumpTo(event.key);
      else return;
      event.preventDefault();
      event.stopPropagation();
    }

    function jumpTo(character) {
      typed += character.toLowerCase();
      setTimeout(() => (typed = ""), 600);
      const found = choices.findIndex((choice) => choice.label.toLowerCase().startsWith(typed));
      if (found >= 0) highlight(found);
    }

    function onOutside({ target }) {
      if (!list.contains(target)) leave();
    }

    function onFocusOut({ relatedTarget }) {
      if (!list.contains(relatedTarget)) leave();
    }

    /** Closing a multiple choice keeps it, if it is a valid and a new one. */
    function leave() {
      const changed = chosen.size !== selected.length || selected.some((value) => !chosen.has(value));
      finish(multiple && changed && chosen.size >= min ? [...chosen] : null);
    }

    function finish(values) {
      if (!list.isConnected) return;
      document.removeEventListener("pointerdown", onOutside, true);
      list.removeEventListener("focusout", onFocusOut);
      const hadFocus = list.contains(document.activeElement);
      list.remove();
      anchor.removeAttribute("aria-expanded");
      if (hadFocus) anchor.focus();
      resolve(values);
    }
  });
}

function place(list, anchor) {
  const { left, top, bottom, width } = anchor.getBoundingClientRect();
  list.style.minWidth = `${width}px`;
  const room = innerHeight - bottom - GAP_PX * 2;
  const above = list.offsetHeight > room && top > room;
  list.style.maxHeight = `${Math.min(340, (above ? top : innerHeight - bottom) - GAP_PX * 2)}px`;
  list.style.left = `${Math.max(GAP_PX, Math.min(left, innerWidth - list.offsetWidth - GAP_PX))}px`;
  list.style.top = above ? `${top - list.offsetHeight - GAP_PX}px` : `${bottom + GAP_PX}px`;
}
