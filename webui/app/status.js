// The sentence, what needs the owner, and how far what is shown can be trusted.

import { byId, el, keyed, mark, setMark, setText, show } from './dom.js';
import { clock, count, duration } from './format.js';

/** Brings the sentence and the list under it up to date. */
export function renderStatus(doc, uptime) {
  setText(byId('sentence'), sentence(doc));
  setText(byId('name'), doc.box.name);
  setText(byId('summary'), summary(doc, uptime));
  const title = `${doc.box.name}: ${sentence(doc)}`;
  if (document.title !== title) document.title = title;
  keyed(byId('needs'), doc.needs.map((need) => [`${need.subject}: ${need.text}`, need]), makeNeed, updateNeed);
}

/** The line under the sentence. */
export function summary({ services, metrics }, uptime) {
  const all = Object.values(services);
  const running = all.filter((service) => service.mark === 'ok' || service.mark === 'care').length;
  const load = metrics ? ` · load\u00a0${metrics.load[0].toFixed(2)}` : '';
  const how = all.length ? `${running} of ${count(all.length, 'service')} running` : 'No services yet';
  return `${how} · up for ${duration(uptime)}${load}`;
}

/** Says how far the page can be trusted: 'connecting', 'live', 'stalled' or 'lost'. */
export function renderTrust(trust, { dataAt, late, silent }) {
  const root = document.documentElement;
  const { word, state, what, why } = TRUST[trust];
  if (root.dataset.trust !== trust) root.dataset.trust = trust;
  setText(byId('trust-word'), word);
  const use = byId('trust-mark');
  if (use.getAttribute('href') !== `#mark-${state}`) use.setAttribute('href', `#mark-${state}`);
  const shown = trust === 'stalled' || trust === 'lost' || (trust === 'connecting' && late) || silent !== null;
  if (silent !== null) {
    setText(byId('banner-what'), `The manager has not answered for ${silent} s.`);
    setText(byId('banner-why'), 'Services go on. It is looked after by itself; what the box knows is on the plain status page.');
  } else if (shown) {
    setText(byId('banner-what'), what);
    setText(byId('banner-why'), why.replace('{time}', dataAt ? clock(dataAt) : ''));
  }
  show(byId('banner'), shown);
  for (const button of document.querySelectorAll('[data-acts]')) {
    if (button.disabled !== (trust !== 'live')) button.disabled = trust !== 'live';
  }
}

function sentence({ box, needs, boot }) {
  if (box.goingDown) return box.goingDown.endsWith('.') ? box.goingDown : `Going down: ${box.goingDown}.`;
  if (needs.length) return `${count(needs.length, 'thing')} need${needs.length === 1 ? 's' : ''} you.`;
  return boot.some((step) => step.mark === 'wait') ? 'Starting up.' : 'All is well.';
}

function makeNeed() {
  const parts = { mark: mark('bad'), subject: el('strong'), text: el('span') };
  const row = el('li', '', parts.mark, el('p', '', parts.subject, parts.text));
  row.parts = parts;
  return row;
}

function updateNeed(row, need) {
  row.className = need.mark;
  setMark(row.parts.mark, need.mark);
  setText(row.parts.subject, need.subject ?? '');
  setText(row.parts.text, need.subject ? ` — ${need.text}` : need.text);
}

const TRUST = {
  connecting: { word: 'Opening', state: 'wait', what: 'Opening the dashboard.', why: 'It takes longer than usual. Trying again by itself.' },
  live: { word: 'Live', state: 'ok', what: '', why: '' },
  stalled: {
    word: 'Not answering',
    state: 'off',
    what: 'The server has stopped sending updates.',
    why: 'What you see is from {time}. Buttons are off until it answers. Your services may still be running.',
  },
  lost: {
    word: 'Not connected',
    state: 'off',
    what: 'Can’t reach the server.',
    why: 'What you see is from {time}. Buttons are off until it answers. Trying again by itself.',
  },
};
