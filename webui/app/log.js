// The last log lines. Follows the end until somebody scrolls up.

import { byId, el } from './dom.js';
import { clock } from './format.js';

let shown = [];

/** Shows `lines`, which are the ones shown before and some more, without the oldest. */
export function renderLog(lines) {
  if (lines === shown) return;
  const box = byId('log');
  const list = byId('log-lines');
  const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
  const kept = lines.indexOf(shown.at(-1)) + 1;
  if (kept === 0) list.replaceChildren();
  list.append(...lines.slice(kept).map(makeLine));
  while (list.children.length > lines.length) list.firstElementChild.remove();
  shown = lines;
  if (follows) box.scrollTop = box.scrollHeight;
}

function makeLine({ at, unit, priority, text }) {
  const grave = priority <= 3 ? 'bad' : priority === 4 ? 'care' : '';
  const line = el('li', grave, el('span', 'unit', unit), ' ', el('span', 'said', text));
  if (at !== null) line.prepend(el('time', '', clock(at)), ' ');
  return line;
}
