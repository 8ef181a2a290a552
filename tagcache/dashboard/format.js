// Formats numbers, times and texts for people.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const three = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const MISSING = "–";
export const NBSP = "\u00a0";

export function count(number) {
  return number === null || number === undefined ? MISSING : whole.format(number);
}

/** A number with three digits: 12.3 k, 4.56 M. */
export function compact(number) {
  if (number === null || number === undefined) return MISSING;
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e4]]) {
    if (Math.abs(number) >= size) return three.format(number / (unit === "k" ? 1e3 : size)) + NBSP + unit;
  }
  return Math.abs(number) >= 100 ? whole.format(number) : short.format(Math.round(number * 100) / 100);
}

/** The label of a tick. */
export function tick(number) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e4]]) {
    if (number >= size) return short.format(number / (unit === "k" ? 1e3 : size)) + NBSP + unit;
  }
  return short.format(number);
}

export function rate(number) {
  return number === null || number === undefined ? MISSING : `${compact(number)}/s`;
}

export const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(number) {
  if (number === null || number === undefined) return MISSING;
  let unit = 0;
  while (Math.abs(number) >= 1024 && unit < BYTE_UNITS.length - 1) {
    number /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || number >= 100 ? 0 : 1;
  return `${number.toFixed(digits)}${NBSP}${BYTE_UNITS[unit]}`;
}

export function byteRate(number) {
  return number === null || number === undefined ? MISSING : `${bytes(number)}/s`;
}

export function percent(share) {
  if (share === null || share === undefined) return MISSING;
  return `${(share * 100).toFixed(share >= 0.9995 || share === 0 ? 0 : 1)}${NBSP}%`;
}

/** A time that is usually far below a second. */
export function latency(seconds) {
  if (seconds === null || seconds === undefined) return MISSING;
  if (seconds === 0) return `0${NBSP}ms`;
  if (seconds < 0.001) return `${short.format(seconds * 1e6)}${NBSP}µs`;
  if (seconds < 1) return `${short.format(seconds * 1e3)}${NBSP}ms`;
  return `${short.format(seconds)}${NBSP}s`;
}

/** A time that may be days. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return MISSING;
  if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)}${NBSP}s`;
  if (seconds < 60) return `${Math.floor(seconds)}${NBSP}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}${NBSP}min${NBSP}${Math.floor(seconds % 60)}${NBSP}s`;
  if (seconds < 86400) {
    return `${Math.floor(seconds / 3600)}${NBSP}h${NBSP}${Math.floor((seconds % 3600) / 60)}${NBSP}min`;
  }
  return `${Math.floor(seconds / 86400)}${NBSP}d${NBSP}${Math.floor((seconds % 86400) / 3600)}${NBSP}h`;
}

/** A time to live in milliseconds. null: no expiry. */
export function ttl(ms) {
  return ms === null || ms === undefined ? "no expiry" : duration(ms / 1000);
}

const two = (number) => String(number).padStart(2, "0");

/** A time in the past, relative to now. */
export function ago(seconds) {
  return seconds < 1.5 ? "just now" : `${duration(seconds)} ago`;
}

export function clock(seconds, withSeconds = true) {
  const date = new Date(seconds * 1000);
  return `${two(date.getHours())}:${two(date.getMinutes())}${withSeconds ? `:${two(date.getSeconds())}` : ""}`;
}

export function moment(seconds) {
  const date = new Date(seconds * 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(seconds)}`;
}

// deno-lint-ignore no-control-regex -- it has to match control characters
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The text with invisible characters, and those that change its direction, as escapes. */
export function visible(value) {
  const written = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return String(value).replace(INVISIBLE, written) || "(empty)";
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)}${NBSP}${number === 1 ? one : many}`;
}

export const entries = (number) => plural(number, "entry", "entries");
