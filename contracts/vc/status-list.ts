/** Bitstring Status List: the pure part (W3C Recommendation of 2025-05-15; credentials §4 rows 9 and 10). Most significant bit first. */

/** Entries of a list at least, so that an index tells little about whom it belongs to. */
export const minListEntries = 131_072;
/** What a list may become when it is decompressed. */
export const maxListBytes = 1 << 20;

const indexForm = /^(0|[1-9]\d{0,9})$/;

/** The number of a `statusListIndex`; undefined for anything but a plain decimal. */
export const readListIndex = (text: string): number | undefined => (indexForm.test(text) ? Number(text) : undefined);

/** A list in which nothing is set. */
export const emptyBits = (entries = minListEntries): Uint8Array<ArrayBuffer> => new Uint8Array(Math.ceil(entries / 8));

/** Whether a bit is set; undefined when the index lies outside the list. */
export const readBit = (bits: Uint8Array, index: number): boolean | undefined => {
  const byte = bits[Math.floor(index / 8)];
  return byte === undefined ? undefined : Math.floor(byte / 2 ** (7 - (index % 8))) % 2 === 1;
};

/** The list with one bit as asked for; the one given stays as it is. */
export const withBit = (bits: Uint8Array, index: number, isSet: boolean): Uint8Array<ArrayBuffer> => {
  const next = new Uint8Array(bits);
  const at = Math.floor(index / 8);
  const mask = 2 ** (7 - (index % 8));
  const byte = next[at];
  if (byte === undefined) throw new RangeError(`the list has no entry ${index}`);
  const wasSet = Math.floor(byte / mask) % 2 === 1;
  if (wasSet !== isSet) next[at] = isSet ? byte + mask : byte - mask;
  return next;
};
