// Values and names are bytes. Here they become text that can be shown and typed, and come back unchanged.

/** What a terminal or an editor would not show as itself: controls, marks of direction, invisible characters. */
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff0-\uffff]|[\u{e0000}-\u{e0fff}]/u;
const INVISIBLE_IN_VALUE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff0-\uffff]|[\u{e0000}-\u{e0fff}]/u;

const UTF8 = new TextEncoder();

export function utf8(text) {
  return UTF8.encode(text);
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export function toBase64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** The text of these bytes; null if they are none. A mark at the beginning stays. */
export function decode(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** The text, if a text field can hold it without changing anything; else null. */
export function plainText(bytes) {
  const text = decode(bytes);
  return text === null || INVISIBLE_IN_VALUE.test(text) ? null : text;
}

const hex = (byte) => byte.toString(16).padStart(2, "0");

/** How long the character is that begins here, in bytes; 0 if none does. */
function lengthAt(bytes, at) {
  const first = bytes[at];
  const length = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  return length && decode(bytes.subarray(at, at + length)) !== null && at + length <= bytes.length ? length : 0;
}

/**
 * Text that `unescape` turns back into the same bytes: `\\`, `\r`, `\xFF` for a byte that is no text, `\u{202e}` for a
 * character that would not be seen. Ends of lines and tabs stay, but in one line.
 */
export function escape(bytes, inOneLine = false) {
  const whole = plainText(bytes);
  if (whole !== null && !whole.includes("\\") && !(inOneLine && /[\n\t]/.test(whole))) return whole;
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const length = lengthAt(bytes, at);
    if (length === 0) {
      text += `\\x${hex(bytes[at])}`;
      at += 1;
      continue;
    }
    const character = decode(bytes.subarray(at, at + length));
    at += length;
    if (character === "\\") text += "\\\\";
    else if (character === "\r") text += "\\r";
    else if (character === "\n") text += inOneLine ? "\\n" : "\n";
    else if (character === "\t") text += inOneLine ? "\\t" : "\t";
    else if (!INVISIBLE.test(character)) text += character;
    else if (character.codePointAt(0) < 0x80) text += `\\x${hex(character.codePointAt(0))}`;
    else text += `\\u{${character.codePointAt(0).toString(16)}}`;
  }
  return text;
}

/** The bytes that an escaped text stands for. Throws where it makes no sense. */
export function unescape(text) {
  const out = [];
  const token = /\\(?:([\\nrt0])|x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,6})\})|([^\\]+)|(\\)/gu;
  for (const [, simple, byte, point, rest, stray] of text.matchAll(token)) {
    if (stray) throw new Error("A backslash stands for itself as \\\\; others begin \\n, \\r, \\t, \\0, \\xFF or \\u{…}.");
    if (simple) out.push({ "\\": 0x5c, n: 10, r: 13, t: 9, 0: 0 }[simple]);
    else if (byte) out.push(parseInt(byte, 16));
    else if (point) {
      const value = parseInt(point, 16);
      if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) throw new Error(`There is no character \\u{${point}}.`);
      for (const one of utf8(String.fromCodePoint(value))) out.push(one);
    } else for (const one of utf8(rest)) out.push(one);
  }
  return Uint8Array.from(out);
}

/** Lines of 16 bytes: offset, bytes, and what of them is text. */
export function hexDump(bytes, limit = 4096) {
  const lines = [];
  const end = Math.min(bytes.length, limit);
  for (let at = 0; at < end; at += 16) {
    const row = [...bytes.subarray(at, Math.min(at + 16, end))];
    const left = row.slice(0, 8).map(hex).join(" ");
    const right = row.slice(8).map(hex).join(" ");
    const shown = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${left.padEnd(23)}  ${right.padEnd(23)}  ${shown}`);
  }
  if (end < bytes.length) lines.push(`… ${bytes.length - end} more bytes`);
  return lines.join("\n");
}

/** A value as it goes into a form. */
export function formValue(bytes) {
  let text = "";
  for (const byte of bytes) {
    const plain = (byte >= 48 && byte < 58) || (byte >= 65 && byte < 91) || (byte >= 97 && byte < 123) || byte === 45 || byte === 46 || byte === 95 || byte === 126;
    text += plain ? String.fromCharCode(byte) : `%${hex(byte).toUpperCase()}`;
  }
  return text;
}

// Paths are kept as they stand in URLs, escaped as `formValue` does: `/a/b%20c`. The root is "".

export function pathBytes(path) {
  const out = [];
  for (let at = 0; at < path.length; at += 1) {
    if (path[at] === "%") {
      out.push(parseInt(path.slice(at + 1, at + 3), 16));
      at += 2;
    } else out.push(path.charCodeAt(at));
  }
  return Uint8Array.from(out);
}

/** A path or name as people read it. */
export function showPath(path) {
  return escape(pathBytes(path), true) || "/";
}

/** The path of what somebody typed. Throws if no key can be called so. */
export function parsePath(text) {
  const names = text.split("/").filter((name) => name !== "");
  return names.map((name) => `/${parseName(name)}`).join("");
}

export function parseName(text) {
  const bytes = unescape(text);
  if (bytes.length === 0) throw new Error("A name is missing.");
  const name = formValue(bytes);
  if (name === "." || name === "..") throw new Error(`No key can be called “${name}”.`);
  return name;
}

export function parentOf(path) {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

export function nameOf(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** 1536 as `1.5 KiB`. */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB"];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Seconds as `2 d 3 h`, `4 min 5 s`, `6 s`. */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [d, hr, m] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (d) return `${d} d ${hr} h`;
  if (hr) return `${hr} h ${m} min`;
  if (m) return `${m} min ${whole % 60} s`;
  return `${whole} s`;
}
