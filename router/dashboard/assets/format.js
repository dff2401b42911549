// How numbers and times are written everywhere on the page.

const KiB = 1024;

export function size(bytes) {
  if (!bytes) return "0";
  if (bytes >= KiB ** 3) return number(bytes / KiB ** 3, 1) + " GiB";
  if (bytes >= KiB ** 2) return number(bytes / KiB ** 2, 0) + " MiB";
  return number(bytes / KiB, 0) + " KiB";
}

// gib is the bare number, for axes and "12.0 of 24.0 GiB".
export function gib(bytes) {
  const n = bytes / KiB ** 3;
  return number(n, n < 9.95 ? 1 : 0);
}

export function number(n, digits = 1) {
  return n.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

// short keeps three figures: 0.4, 9.7, 48, 112.
export function short(n) {
  return number(n, n > 0 && n < 9.95 ? 1 : 0);
}

export function count(n, noun) {
  return n === 1 ? `1 ${noun}` : `${n} ${noun}s`;
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

export function millis(ms) {
  if (ms == null) return "–";
  if (ms < 1) return number(ms, 1) + " ms";
  if (ms < 1000) return Math.round(ms) + " ms";
  return number(ms / 1000, 1) + " s";
}

export function clock(date) {
  return date.toLocaleTimeString("en-GB");
}

// natural sorts gpu-2 before gpu-10.
const collator = new Intl.Collator("en", { numeric: true });
export const natural = (a, b) => collator.compare(a, b);
