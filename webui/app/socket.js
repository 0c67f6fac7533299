// The WebSocket to the server: opens it again after it broke, later and later, and at once when the
// page comes back to the front or to the network.

/**
 * Connects and stays connected. Calls `onFrame(frame)` for each frame, `onOpen(isOpen)` for each
 * change. Returns `{ resync() }`, which asks for the whole document.
 */
export function connect(url, { onFrame, onOpen }) {
  const link = { socket: null, tries: 0, timer: 0 };

  const open = () => {
    clearTimeout(link.timer);
    const socket = (link.socket = new WebSocket(url));
    socket.onopen = () => onOpen(true);
    socket.onmessage = ({ data }) => {
      link.tries = 0;
      onFrame(JSON.parse(data));
    };
    socket.onclose = () => {
      if (link.socket !== socket) return;
      link.socket = null;
      onOpen(false);
      link.timer = setTimeout(open, backOff(link.tries++, Math.random()));
    };
  };

  const atOnce = () => {
    if (!link.socket && document.visibilityState === 'visible') {
      link.tries = 0;
      open();
    }
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
      link.socket?.close();
    },
  };
}

/** Milliseconds to wait after `tries` failures; `chance` in 0..1 spreads many pages apart. */
export function backOff(tries, chance) {
  return Math.min(500 * 2 ** tries, 15000) * (0.75 + chance / 2);
}
