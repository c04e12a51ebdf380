// As much of CBOR (RFC 8949) as the bridge needs: to cut the top level of a
// message into its raw pieces and to put pieces together. What is inside of them
// passes through untouched, so that no type is lost on the way.

const depthMax = 128;

// head reads the type and the argument of the item at `at`.
function head(b, at) {
  if (at >= b.length) throw new Error("cbor: the message ends early");
  const major = b[at] >> 5;
  const info = b[at] & 31;
  if (info < 24) return { major, info, value: info, next: at + 1 };
  if (info === 31) return { major, info, value: -1, next: at + 1 };
  if (info > 27) throw new Error(`cbor: reserved length ${info}`);
  const bytes = 1 << (info - 24);
  if (at + 1 + bytes > b.length) throw new Error("cbor: the message ends early");
  const view = new DataView(b.buffer, b.byteOffset + at + 1, bytes);
  const value = bytes === 8 ? Number(view.getBigUint64(0)) : bytes === 4 ? view.getUint32(0) : bytes === 2 ? view.getUint16(0) : view.getUint8(0);
  return { major, info, value, next: at + 1 + bytes };
}

// skip returns where the item at `at` ends.
export function skip(b, at, depth = 0) {
  if (depth > depthMax) throw new Error("cbor: nested too deep");
  const h = head(b, at);
  switch (h.major) {
    case 0:
    case 1:
    case 7:
      if (h.info === 31) throw new Error("cbor: an end without a beginning");
      return h.next;
    case 2:
    case 3:
      if (h.info === 31) return skipIndefinite(b, h.next, depth);
      if (h.next + h.value > b.length) throw new Error("cbor: the message ends early");
      return h.next + h.value;
    case 6:
      return skip(b, h.next, depth + 1);
    default: {
      if (h.info === 31) return skipIndefinite(b, h.next, depth);
      let next = h.next;
      const items = h.major === 5 ? 2 * h.value : h.value;
      for (let i = 0; i < items; i++) next = skip(b, next, depth + 1);
      return next;
    }
  }
}

function skipIndefinite(b, at, depth) {
  while (at < b.length && b[at] !== 0xff) at = skip(b, at, depth + 1);
  if (at >= b.length) throw new Error("cbor: the message ends early");
  return at + 1;
}

// text reads a text string, or returns undefined for another type.
export function text(b) {
  if (!b || b.length === 0) return undefined;
  const h = head(b, 0);
  if (h.major !== 3 || h.info === 31) return undefined;
  return Buffer.from(b.buffer, b.byteOffset + h.next, h.value).toString("utf8");
}

// fields cuts a map with text keys into raw values; undefined for another type.
export function fields(b) {
  const h = head(b, 0);
  if (h.major !== 5) return undefined;
  const out = new Map();
  let at = h.next;
  for (let i = 0; h.info === 31 ? b[at] !== 0xff : i < h.value; i++) {
    const keyEnd = skip(b, at);
    const valueEnd = skip(b, keyEnd);
    const key = text(b.subarray(at, keyEnd));
    if (key === undefined) throw new Error("cbor: a key is no text");
    out.set(key, b.subarray(keyEnd, valueEnd));
    at = valueEnd;
  }
  return out;
}

// items cuts an array into raw pieces; undefined for another type.
export function items(b) {
  if (!b || b.length === 0) return undefined;
  const h = head(b, 0);
  if (h.major !== 4) return undefined;
  const out = [];
  let at = h.next;
  for (let i = 0; h.info === 31 ? b[at] !== 0xff : i < h.value; i++) {
    const end = skip(b, at);
    out.push(b.subarray(at, end));
    at = end;
  }
  return out;
}

function size(major, n) {
  if (n < 24) return Buffer.from([(major << 5) | n]);
  if (n < 256) return Buffer.from([(major << 5) | 24, n]);
  const b = Buffer.alloc(n < 65536 ? 3 : 5);
  b[0] = (major << 5) | (n < 65536 ? 25 : 26);
  if (n < 65536) b.writeUInt16BE(n, 1);
  else b.writeUInt32BE(n, 1);
  return b;
}

export function encodeText(s) {
  const b = Buffer.from(s, "utf8");
  return Buffer.concat([size(3, b.length), b]);
}

export function encodeInt(n) {
  return n >= 0 ? size(0, n) : size(1, -1 - n);
}

// encodeMap puts raw values under text keys.
export function encodeMap(entries) {
  const parts = [size(5, entries.length)];
  for (const [key, raw] of entries) parts.push(encodeText(key), raw);
  return Buffer.concat(parts);
}

export function encodeArray(raws) {
  return Buffer.concat([size(4, raws.length), ...raws]);
}

// encodeUuid is the tag 37 that SurrealDB uses for a UUID.
export function encodeUuid(bytes) {
  return Buffer.concat([Buffer.from([0xd8, 37]), size(2, bytes.length), bytes]);
}

// uuidKey makes a UUID, tag 37 with bytes or tag 9 with text, into a map key.
export function uuidKey(b) {
  if (!b || b.length === 0) return undefined;
  const tag = head(b, 0);
  if (tag.major !== 6) return text(b)?.toLowerCase();
  const h = head(b, tag.next);
  const raw = Buffer.from(b.buffer, b.byteOffset + h.next, h.value);
  if (h.major === 3) return raw.toString("utf8").toLowerCase();
  const hex = raw.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
