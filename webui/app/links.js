// Where a service is opened: by its own host name where names have names below them, by its own port
// where the page itself was opened by an address or a bare name.

/** The URL of a service's interface seen from `here` (a Location), or null if it has none there. */
export function serviceUrl(here, id, { port, path }) {
  if (!/^[a-z0-9-]+$/.test(id)) return null;
  if (!hasNamesBelow(here.hostname)) return port ? `https://${here.hostname}:${port}${tail(path)}` : null;
  const colon = here.port ? `:${here.port}` : '';
  return `https://${id}.${here.hostname}${colon}${tail(path)}`;
}

function hasNamesBelow(host) {
  const isAddress = host.startsWith('[') || /^\d+(\.\d+){3}$/.test(host);
  return !isAddress && (host === 'localhost' || host.includes('.'));
}

function tail(path) {
  return path.startsWith('/') ? path : `/${path}`;
}
