// The door's own word on how the manager is: it answers when nobody else does.

/** Asks every 2 s while the page is seen; calls `onBeat(silence)` with seconds, or null. */
export function listen(onBeat) {
  let asking = false;
  const ask = async () => {
    if (document.hidden || asking) return;
    asking = true;
    onBeat(await beat().catch(() => null));
    asking = false;
  };
  setInterval(ask, EVERY_MS);
}

/** How long the manager has not answered, in whole seconds; null while it does, or nobody knows. */
export function silence(answer) {
  const ms = answer?.manager?.silentMs;
  return typeof ms === 'number' && ms >= WORTH_A_WORD_MS ? Math.floor(ms / 1000) : null;
}

async function beat() {
  const response = await fetch('/heartbeat', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS) });
  return silence(await response.json());
}

const EVERY_MS = 2000;
const PATIENCE_MS = 20000;
// Shorter silences are those of any program that works hard.
const WORTH_A_WORD_MS = 2000;
