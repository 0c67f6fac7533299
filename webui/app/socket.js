// The WebSocket to the server: opens it again after it broke, later and later, and at once when the
// page comes back to the front or to the network.

/**
 * Connects and stays connected. Calls `onFrame(frame)` for each frame, `onOpen(isOpen)` for each
 * change. Returns `{ resync(), restart() }`: asks for the whole document, or connects anew.
 */
export function connect(url, { onFrame, onOpen }) {
  const link = { socket: null, tries: 0, timer: 0 };

  const open = () => {
    clearTimeout(link.timer);
    const socket = (link.socket = new WebSocket(url));
    link.timer = setTimeout(() => drop(socket), PATIENCE_MS);
    socket.onopen = () => {
      clearTimeout(link.timer);
      onOpen(true);
    };
    socket.onmessage = ({ data }) => {
      link.tries = 0;
      onFrame(JSON.parse(data));
    };
    socket.onclose = () => drop(socket);
  };

  // Does not wait for the other side's goodbye: a stopped server never says it.
  const drop = (socket) => {
    if (link.socket !== socket) return;
    link.socket = socket.onmessage = socket.onopen = null;
    socket.close();
    onOpen(false);
    clearTimeout(link.timer);
    link.timer = setTimeout(open, backOff(link.tries++, Math.random()));
  };

  const atOnce = () => {
    if (link.socket || document.visibilityState !== 'visible') return;
    link.tries = 0;
    open();
  };
  for (const event of ['online', 'pageshow']) addEventListener(event, atOnce);
  document.addEventListener('visibilitychange', atOnce);
  open();

  return {
    resync() {
      if (link.socket?.readyState === WebSocket.OPEN) link.socket.send('{"resync":true}');
    },
    // For a socket that is open and silent: the network forgot it and told nobody.
    restart() {
      if (link.socket) drop(link.socket);
    },
  };
}

/** Milliseconds to wait after `tries` failures; `chance` in 0..1 spreads many pages apart. */
export function backOff(tries, chance) {
  return Math.min(500 * 2 ** tries, 15000) * (0.75 + chance / 2);
}

// For a handshake; a network that drops packets says nothing.
const PATIENCE_MS = 10000;
