// Ties the page together: frames into the store, the store onto the page, once a screen refresh.

import { ask, wireDialog } from './dialog.js';
import { byId, setText } from './dom.js';
import { listen } from './heartbeat.js';
import { renderLog } from './log.js';
import { renderNetwork, tickNetwork, wireNetwork } from './network.js';
import { renderPanels, renderServer } from './panels.js';
import { renderServices, tickServices } from './services.js';
import { connect } from './socket.js';
import { renderStatus, renderTrust, summary } from './status.js';
import { createStore, takeFrame, trust, uptime } from './store.js';

const store = createStore(() => performance.now());
let open = false;
let planned = false;
// For how many seconds the manager has not answered, as the door says.
let silent = null;
// The path this very file came by names the tree of files it belongs to.
const ui = new URL(import.meta.url).pathname.split('/')[2];

const link = connect(`${location.protocol === 'http:' ? 'ws' : 'wss'}://${location.host}/ws`, {
  onFrame(frame) {
    const outcome = takeFrame(store, frame, Date.now());
    if (outcome === 'gap') link.resync();
    if (outcome === 'changed') plan();
    renewIfOutdated();
    look();
  },
  onOpen(isOpen) {
    open = isOpen;
    look();
  },
});

// Several changes between two refreshes of the screen are drawn once; hidden pages draw nothing.
function plan() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    if (store.doc === null) return;
    const now = uptime(store);
    renderStatus(store.doc, now);
    renderServices(store.doc, now);
    renderPanels(store.doc, now);
    renderNetwork(store.doc, now);
    renderLog(store.log);
    look();
  });
}

function look() {
  renderTrust(trust(store, open), { dataAt: store.dataAt, late: performance.now() > LATE_MS, silent });
}

// Time goes on while nothing happens, but only as long as the server is known to live.
function tick() {
  look();
  if (open && store.now() - store.heardAt > SILENT_MS) link.restart();
  const now = uptime(store);
  tickNetwork(now, trust(store, open) === 'live');
  if (document.hidden || trust(store, open) !== 'live') return;
  setText(byId('summary'), summary(store.doc, now));
  renderServer(store.doc, now);
  tickServices(store.doc, now);
}

// The server was updated: its new page is taken while nobody looks.
function renewIfOutdated() {
  if (store.ui && ui !== store.ui && document.hidden) location.reload();
}

function wirePower(id, title, text, verb) {
  byId(id).onclick = () => ask({ title, text, verb, method: 'box.power', params: { how: id } });
}

wireDialog();
wireNetwork();
wirePower('reboot', 'Restart the server?', 'All services stop and come back within a minute or two.', 'Restart the server');
wirePower('poweroff', 'Turn the server off?', 'All services stop. To turn it on again you need its power button.', 'Turn it off');
setInterval(tick, 1000);
listen((seconds) => {
  silent = seconds;
  look();
});

// When a still page begins to need an explanation.
const LATE_MS = 3000;
// Longer than the page calls the server lost: then the connection itself is dead.
const SILENT_MS = 8000;
