// The list of services: how each is, why, how to open it, and what can be done with it.

import { ask } from './dialog.js';
import { byId, el, icon, keyed, mark, setMark, setText, show } from './dom.js';
import { count, duration } from './format.js';
import { serviceUrl } from './links.js';

/** Brings the list up to date. */
export function renderServices(doc, uptime) {
  const services = Object.entries(doc.services);
  services.sort(([, a], [, b]) => a.title.localeCompare(b.title));
  show(byId('no-services'), services.length === 0);
  show(byId('services'), services.length > 0);
  keyed(byId('services'), services, makeRow, (row, service) => updateRow(row, service, uptime));
}

/** Brings only the times up to date. */
export function tickServices(doc, uptime) {
  for (const row of byId('services').children) {
    const service = doc.services[row.dataset.key];
    if (service) setText(row.parts.state, stateText(service, uptime));
  }
}

function makeRow(id) {
  const parts = {
    letter: el('span', 'letter'),
    title: el('h3'),
    mark: mark('off'),
    state: el('span'),
    why: el('p', 'why'),
    links: el('span', 'links'),
    start: actionButton('Start'),
    restart: actionButton('Restart'),
    stop: actionButton('Stop'),
  };
  parts.letter.setAttribute('aria-hidden', 'true');
  const state = el('p', 'state', parts.mark, ' ', parts.state);
  const text = el('div', 'text', parts.title, state, parts.why);
  const buttons = el('div', 'actions', parts.links, parts.start, parts.restart, parts.stop);
  const row = el('li', '', parts.letter, text, buttons);
  row.parts = parts;
  for (const [name, question] of Object.entries(QUESTIONS)) {
    parts[name].onclick = () => {
      const title = parts.title.textContent;
      ask({ ...question(title), method: `service.${name}`, params: { id }, home: () => focusAction(parts) });
    };
  }
  return row;
}

function updateRow(row, service, uptime) {
  const { parts } = row;
  const focused = row.contains(document.activeElement) && document.activeElement;
  setText(parts.letter, (service.title[0] ?? '?').toUpperCase());
  setText(parts.title, service.title);
  setMark(parts.mark, service.mark);
  parts.state.className = service.mark;
  setText(parts.state, stateText(service, uptime));
  setText(parts.why, service.why ?? '');
  show(parts.why, Boolean(service.why));
  show(parts.start, !service.wanted);
  show(parts.restart, service.wanted);
  show(parts.stop, service.wanted);
  if (focused && focused.hidden) focusAction(parts);
  for (const name of Object.keys(QUESTIONS)) label(parts[name], service.title);
  renderLinks(parts.links, row.dataset.key, service);
}

// The button that had the focus may be gone; the keyboard's place in the list is not.
function focusAction(parts) {
  (parts.start.hidden ? parts.restart : parts.start).focus();
}

function renderLinks(parent, id, service) {
  const open = service.mark === 'ok' || service.mark === 'care';
  const found = service.interfaces.map((each) => [each.name, serviceUrl(location, id, each)]);
  const usable = open ? found.filter(([, url]) => url) : [];
  keyed(parent, usable, makeLink, (link, url, name) => {
    if (link.getAttribute('href') !== url) link.href = url;
    setText(link.firstElementChild, usable.length > 1 ? name : 'Open');
    label(link, service.title);
  });
}

function makeLink() {
  const link = el('a', 'button', el('span'), icon('open'));
  link.target = '_blank';
  link.rel = 'noopener';
  return link;
}

function actionButton(verb) {
  const button = el('button', 'button quiet', el('span', '', verb));
  button.type = 'button';
  button.dataset.acts = '';
  return button;
}

// "Restart" on the button, "Restart Photos" for those who hear it.
function label(node, title) {
  const text = `${node.firstElementChild.textContent} ${title}`;
  if (node.getAttribute('aria-label') !== text) node.setAttribute('aria-label', text);
}

function stateText(service, uptime) {
  const since = service.since === null ? service.word : `${service.word} for ${duration(uptime - service.since)}`;
  const again = service.restarts ? `, started again ${service.restarts === 1 ? 'once' : count(service.restarts, 'time')}` : '';
  return service.version ? `${since}${again} · version ${service.version}` : since + again;
}

const QUESTIONS = {
  start: (title) => ({ title: `Start ${title}?`, text: 'It runs until you stop it, also after the server restarts.', verb: `Start ${title}` }),
  restart: (title) => ({ title: `Restart ${title}?`, text: 'It does not answer for a few seconds. Its data stays.', verb: `Restart ${title}` }),
  stop: (title) => ({ title: `Stop ${title}?`, text: 'Nobody can use it until you start it again. Its data stays.', verb: `Stop ${title}` }),
};
