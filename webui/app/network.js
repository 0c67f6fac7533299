// Changing the network without being locked out: what is to be, and keeping it in time. A change that
// nobody keeps is undone by the server itself, also when this page never finds it again.

import { ask } from './dialog.js';
import { byId, el, keyed, setText, show } from './dom.js';

// The change that this page asked for: its token, where the server is then, and when it is over.
let own = null;
let network = null;

/** Makes the form and the buttons work. */
export function wireNetwork() {
  byId('net-mode').onchange = () => show(byId('net-fixed'), byId('net-mode').value === 'static');
  byId('net-not').onclick = () => byId('net').close();
  byId('net-form').onsubmit = propose;
  byId('change-keep').onclick = keep;
  byId('change-undo').onclick = () =>
    ask({ title: 'Undo the change?', text: 'The network’s settings of before come back at once.', verb: 'Undo it', method: 'net.rollback', params: {} });
}

/** Brings the buttons of the links, the change that waits and the end of the last up to date. */
export function renderNetwork(doc, uptime) {
  network = doc.network;
  const links = doc.links.map(({ name }) => [name, name]);
  keyed(byId('net-links'), links, makeButton, () => {});
  setText(byId('net-last'), network.last ?? '');
  show(byId('net-last'), Boolean(network.last));
  if (own && !network.change && performance.now() > own.begins + SETTLE_MS) own = null;
  tickNetwork(uptime, true);
}

/** Counts down, also while the server is not heard: it may be at its new address. */
export function tickNetwork(uptime, live) {
  const change = network?.change ?? null;
  show(byId('change'), Boolean(change || own));
  if (!change && !own) return;
  const left = Math.max(0, Math.round(own ? (own.until - performance.now()) / 1000 : change.until - uptime));
  setText(byId('change-what'), change ? `${change.link} is being changed: ${change.what}.` : 'The network is being changed.');
  setText(byId('change-why'), why(left, live));
  show(byId('change-keep'), Boolean(own));
  show(byId('change-open'), Boolean(own));
}

function why(left, live) {
  const end = `If nobody keeps it, it is undone in ${left} s.`;
  if (!own) return `${end} It is kept in the browser in which it was made, or with “pilot net confirm” on the server.`;
  if (live) return `${end} If this page still finds the server once it is changed, keep it here.`;
  return `${end} This page does not find the server any more: open its new address, and keep it there.`;
}

function makeButton(link) {
  const button = el('button', 'button', `Change ${link}`);
  button.type = 'button';
  button.dataset.acts = '';
  button.onclick = () => open(link);
  return button;
}

function open(link) {
  const { mode = 'automatic', address = '', gateway, dns = [] } = network.settings[link] ?? {};
  setText(byId('net-title'), `Addresses of ${link}`);
  byId('net').dataset.link = link;
  byId('net-mode').value = mode;
  byId('net-address').value = address;
  byId('net-gateway').value = gateway ?? '';
  byId('net-dns').value = dns.join(' ');
  show(byId('net-fixed'), mode === 'static');
  byId('net').showModal();
}

function propose(event) {
  event.preventDefault();
  const { link } = byId('net').dataset;
  const mode = byId('net-mode').value;
  const params = { link, mode };
  if (mode === 'static') {
    params.address = byId('net-address').value.trim();
    params.gateway = byId('net-gateway').value.trim() || null;
    params.dns = byId('net-dns').value.split(/[\s,]+/).filter(Boolean);
  }
  byId('net').close();
  ask({
    title: `Change ${link}?`,
    text: 'The server may be at another address then. If you do not keep the change there within 90 seconds, the settings of before come back.',
    verb: 'Change it',
    method: 'net.set',
    params,
    done: taken,
  });
}

function taken({ token, seconds, appliesInS, urls }) {
  const begins = performance.now() + 1000 * appliesInS;
  own = { token, begins, until: begins + 1000 * seconds };
  setText(byId('change-error'), '');
  byId('change-open').href = urls[0];
  tickNetwork(0, true);
}

async function keep() {
  const error = byId('change-error');
  setText(error, '');
  try {
    const reply = await fetch('/net/confirm', {
      method: 'POST',
      body: new URLSearchParams({ token: own.token }),
      signal: AbortSignal.timeout(KEEP_MS),
    });
    if (reply.ok) {
      own = null;
      show(byId('change'), false);
      return;
    }
    const page = new DOMParser().parseFromString(await reply.text(), 'text/html');
    setText(error, page.querySelector('h1')?.textContent ?? 'It could not be kept.');
  } catch {
    setText(error, 'The server did not answer here. Open its new address, and keep the change there.');
  }
}

// Between a change's beginning and the first news of it.
const SETTLE_MS = 5000;
// It is written down before it is answered.
const KEEP_MS = 40000;
