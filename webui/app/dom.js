// The page's elements: made once, changed only where something changed, so that focus, selection
// and scroll positions stay.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Makes an element with a class and children. */
export function el(tag, className = '', ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Sets a node's text if it is another. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Shows or hides a node. */
export function show(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

/** The shape for a state: 'ok', 'wait', 'care', 'bad' or 'off'. A word has to stand beside it. */
export function mark(state) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('aria-hidden', 'true');
  svg.append(document.createElementNS(SVG, 'use'));
  setMark(svg, state);
  return svg;
}

/** Changes a shape. */
export function setMark(svg, state) {
  if (svg.dataset.mark === state) return;
  svg.dataset.mark = state;
  svg.setAttribute('class', `mark ${state}`);
  svg.firstElementChild.setAttribute('href', `#mark-${state}`);
}

/** An icon of the sprite. */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', 'icon');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  return svg;
}

/**
 * Makes `parent`'s children stand for `items`, an array of [key, value]: `make(key)` makes a child
 * for a new key, `update(child, value, key)` brings it up to date.
 */
export function keyed(parent, items, make, update) {
  const old = new Map(Array.from(parent.children, (child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const [key, value] of items) {
    let child = old.get(String(key));
    old.delete(String(key));
    if (!child) {
      child = make(key);
      child.dataset.key = key;
    }
    update(child, value, key);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of old.values()) child.remove();
}

/** Makes a definition list of [term, description] pairs; pairs without a description are left out. */
export function definitions(list, pairs) {
  const known = pairs.filter(([, description]) => description);
  keyed(
    list,
    known,
    () => el('div', '', el('dt'), el('dd')),
    (row, description, term) => {
      setText(row.firstElementChild, term);
      setText(row.lastElementChild, description);
    },
  );
}

const SVG = 'http://www.w3.org/2000/svg';
