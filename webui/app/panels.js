// What the server is made of: itself, its addresses, its startup, its parts and their silences.

import { byId, definitions, el, keyed, mark, setMark, setText, show } from './dom.js';
import { bytes, count, duration, exact } from './format.js';

/** Brings all panels up to date. */
export function renderPanels(doc, uptime) {
  renderServer(doc, uptime);
  renderLinks(doc);
  renderFindings(doc);
  renderBoot(doc);
  keyed(byId('roles'), doc.roles.map((role) => [role.name, role]), makeRow, (row, role) => updateRole(row, role, uptime));
  keyed(byId('notices'), doc.notices.map((text) => [text, text]), () => el('li'), setText);
  show(byId('notices-box'), doc.notices.length > 0);
  renderSilences(doc);
}

/** The panel of the server itself; its uptime goes on while nothing else does. */
export function renderServer(doc, uptime) {
  const { box, metrics } = doc;
  setText(byId('version'), box.version);
  definitions(byId('server'), [
    ['Name', box.name],
    ['Up for', duration(uptime)],
    ['Load', metrics && `${metrics.load.map((n) => n.toFixed(2)).join(' · ')} on ${count(metrics.processors, 'processor')}`],
    ['Memory', metrics && `${bytes(metrics.memoryTotal - metrics.memoryAvailable)} of ${bytes(metrics.memoryTotal)} used`],
    ['Data disk', box.data.total === null ? box.data.word : `${bytes(box.data.free)} of ${bytes(box.data.total)} free`],
    ['Version', `Pilotlight ${box.version}`],
    ['Kernel', `Linux ${box.kernel}`],
  ]);
}

function renderLinks({ links, box }) {
  const rows = links.map((link) => [link.name, linkText(link)]);
  definitions(byId('links'), [
    ...(rows.length ? rows : [['Network', 'No network card was found.']]),
    ['Gateway', box.gateway],
    ['Name servers', box.dns.join(', ')],
  ]);
}

function renderFindings({ network }) {
  const items = network.findings.map((finding, n) => [`${n} ${finding.about}`, finding]);
  keyed(byId('findings'), items, makeRow, (row, finding) => {
    updateRow(row, { name: finding.about, mark: finding.mark }, finding.word);
    setText(row.parts.why, finding.evidence);
  });
}

function linkText({ carrier, addresses, origin, mac }) {
  if (!carrier) return `No cable (${mac})`;
  return [addresses.join('\n') || 'No address yet', origin].filter(Boolean).join('\n');
}

function renderBoot({ boot }) {
  const end = Math.max(1, ...boot.map((step) => step.beganMs + (step.tookMs ?? 0)));
  keyed(byId('boot'), boot.map((step, n) => [`${n} ${step.name}`, step]), makeStep, (row, step) => updateStep(row, step, end));
}

function makeStep() {
  const row = makeRow();
  row.parts.bar = el('span', 'span');
  row.parts.bar.setAttribute('aria-hidden', 'true');
  row.append(row.parts.bar);
  return row;
}

function updateStep(row, step, end) {
  const took = step.tookMs === null ? STEP_WORDS[step.mark] : exact(step.tookMs);
  updateRow(row, step, step.mark === 'bad' ? `Failed after ${took}` : took);
  setText(row.parts.why, [step.why, step.consequence].filter(Boolean).join(' '));
  show(row.parts.why, Boolean(step.why));
  const { style } = row.parts.bar;
  style.setProperty('--from', `${(100 * step.beganMs) / end}%`);
  style.setProperty('--size', `${(100 * (step.tookMs ?? 0)) / end}%`);
  row.parts.bar.className = `span ${step.mark}`;
}

function updateRole(row, role, uptime) {
  const replaced = role.restarts > 0 && `Replaced ${role.restarts === 1 ? 'once' : count(role.restarts, 'time')} since startup.`;
  const why = [role.why, replaced].filter(Boolean).join(' ');
  updateRow(row, role, `${role.word} for ${duration(uptime - role.since)}`);
  setText(row.parts.why, why);
  show(row.parts.why, Boolean(why));
}

/** When a part was silent, and what its threads did then: folded, as it is for whoever looks for a fault. */
function renderSilences({ silences }) {
  keyed(byId('silences'), silences.map((one) => [`${one.role} ${one.generation} ${one.atMs}`, one]), makeSilence, updateSilence);
  show(byId('silences-box'), silences.length > 0);
}

function makeSilence() {
  const row = makeRow();
  row.parts.threads = el('pre');
  row.parts.more = el('details', 'why', el('summary', '', 'What its threads did'), row.parts.threads);
  row.append(row.parts.more);
  return row;
}

function updateSilence(row, silence) {
  const { role, atMs, silenceMs, why, word, threads } = silence;
  updateRow(row, { name: role, mark: silence.mark }, `${word} ${exact(atMs)} after startup`);
  setText(row.parts.why, `Silent for ${exact(silenceMs)}: ${why}.`);
  setText(row.parts.threads, threads.join('\n'));
  show(row.parts.more, threads.length > 0);
}

function makeRow() {
  const parts = { mark: mark('off'), name: el('span', 'name'), value: el('span', 'value'), why: el('p', 'why') };
  const row = el('li', '', parts.mark, parts.name, parts.value, parts.why);
  row.parts = parts;
  return row;
}

function updateRow({ parts }, item, value) {
  setMark(parts.mark, item.mark);
  setText(parts.name, item.name);
  setText(parts.value, value);
}

const STEP_WORDS = { ok: 'done', wait: 'running', off: 'not needed', bad: '', care: '' };
