// Numbers as people read them.

/** A length of time in seconds, in its one or two largest units: "3 minutes", "2 hours 5 minutes". */
export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 10) return 'a moment';
  if (s < 60) return `${s - (s % 10)} seconds`;
  for (const [size, name, below, part] of UNITS) {
    if (s < size) continue;
    const whole = Math.floor(s / size);
    const rest = below && whole < 10 ? Math.floor((s % size) / below) : 0;
    return rest ? `${count(whole, name)} ${count(rest, part)}` : count(whole, name);
  }
  return '';
}

/** A length of time in milliseconds, exactly: "8 ms", "1.25 s". */
export function exact(ms) {
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
}

/** Bytes: "512 MiB", "1.4 GiB". */
export function bytes(n) {
  let unit = 0;
  while (n >= 1024 && unit < SIZES.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${n < 10 && unit > 0 ? n.toFixed(1) : Math.round(n)} ${SIZES[unit]}`;
}

/** A time of day, "14:02:11", of milliseconds since 1970. */
export function clock(ms) {
  const date = new Date(ms);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');
}

/** "1 service", "2 services". */
export function count(n, name) {
  return `${n} ${name}${n === 1 ? '' : 's'}`;
}

const UNITS = [
  [86400, 'day', 3600, 'hour'],
  [3600, 'hour', 60, 'minute'],
  [60, 'minute', 0, ''],
];
const SIZES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
