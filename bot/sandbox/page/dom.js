// Building and updating the page: text only ever becomes text nodes, never markup.

/**
 * Builds one element: `h("button.primary", {type: "button", onclick}, "Send")`.
 * Attributes that are null or false are left out; `style` is an object of CSS properties.
 */
export function h(selector, attributes = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes ?? {})) setAttribute(element, name, value);
  element.append(...nodes(children));
  return element;
}

function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "class") element.classList.add(...String(value).split(" ").filter(Boolean));
  else if (name === "style") {
    for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
  } else element.setAttribute(name, value === true ? "" : value);
}

const nodes = (children) =>
  children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== "");

/**
 * Makes `current` look like `next` in place and returns the node that stands there now.
 * Focus, scroll and a picture already on the screen survive, so a message can be edited every second without a flicker.
 * Listeners are not carried over: what is morphed is listened to by its container.
 */
export function morph(current, next) {
  if (current.nodeType !== next.nodeType || current.nodeName !== next.nodeName || key(current) !== key(next)) {
    current.replaceWith(next);
    return next;
  }
  if (current.nodeType === Node.TEXT_NODE) {
    if (current.data !== next.data) current.data = next.data;
    return current;
  }
  morphAttributes(current, next);
  morphChildren(current, [...next.childNodes]);
  return current;
}

export function morphChildren(parent, next) {
  for (const [position, child] of nodes([next]).map(asNode).entries()) {
    const present = parent.childNodes[position];
    if (present) morph(present, child);
    else parent.append(child);
  }
  while (parent.childNodes.length > next.length) parent.lastChild.remove();
}

function morphAttributes(current, next) {
  for (const { name } of [...current.attributes]) {
    if (!next.hasAttribute(name)) current.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (current.getAttribute(name) === value) continue;
    // The content security policy refuses style attributes; the style object is allowed.
    if (name === "style") current.style.cssText = next.style.cssText;
    else current.setAttribute(name, value);
  }
}

const asNode = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));
const key = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
