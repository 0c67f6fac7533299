// What the server said: the document, the last log lines, and how fresh they are. Takes frames in,
// knows no socket and no page.

import { applyPatch } from './patch.js';

export const LOG_KEPT = 200;

/** An empty store. `now` is a clock in milliseconds that only goes forward. */
export function createStore(now) {
  return { doc: null, seq: 0, ui: '', log: [], uptimeMs: 0, heardAt: 0, dataAt: null, poolAgeMs: 0, now };
}

/**
 * Takes one frame. Returns 'changed', 'same', or 'gap' when something was lost and a dump must be
 * asked for.
 */
export function takeFrame(store, frame, wallClock) {
  store.heardAt = store.now();
  if (frame.hb) {
    store.poolAgeMs = frame.hb.poolAgeMs;
    store.uptimeMs = frame.hb.uptimeMs;
    if (store.poolAgeMs < STALLED_MS) store.dataAt = wallClock - store.poolAgeMs;
    return 'same';
  }
  store.dataAt = wallClock;
  if ('dump' in frame) return takeDump(store, frame);
  if (frame.seq <= store.seq) return 'same';
  if (frame.seq !== store.seq + 1) return 'gap';
  try {
    store.doc = applyPatch(store.doc, frame.ops);
  } catch {
    return 'gap';
  }
  store.seq = frame.seq;
  store.log = store.log.concat(frame.log).slice(-LOG_KEPT);
  return 'changed';
}

/** The box's uptime now, in seconds: the last one told and the time since. */
export function uptime(store) {
  return (store.uptimeMs + store.now() - store.heardAt) / 1000;
}

/** 'connecting', 'live', 'stalled' or 'lost': how much of what is shown can be trusted. */
export function trust(store, open) {
  if (store.doc === null) return 'connecting';
  if (!open || store.now() - store.heardAt >= LOST_MS) return 'lost';
  return store.poolAgeMs >= STALLED_MS ? 'stalled' : 'live';
}

function takeDump(store, frame) {
  Object.assign(store, { doc: frame.dump, seq: frame.seq, ui: frame.ui, uptimeMs: frame.uptimeMs, poolAgeMs: 0 });
  store.log = frame.log.slice(-LOG_KEPT);
  return 'changed';
}

// Three heartbeats missed.
const LOST_MS = 6000;
// The server looks at the box every 2 s; after 5 it does not look any more.
const STALLED_MS = 5000;
