/**
 * Where claims are kept in a Cluster: in places spread evenly over its hash slots, each with a partner half a circle away,
 * so that with two or more masters of equal shares a place and its partner never stand on the same one.
 */

export const placeCount = 64;
const slotCount = 16_384;

/** CRC-16/XMODEM, as the Cluster specification has it. */
const crc16 = (text: string): number => {
  let crc = 0;
  for (const byte of Buffer.from(text, 'latin1')) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
  }
  return crc;
};

export const slotOf = (tag: string): number => crc16(tag) % slotCount;

/** For each place the first number whose slot lies in its share: the hash tag of all its keys. */
const findTags = (): readonly string[] => {
  const tags = new Map<number, string>();
  for (let n = 0; tags.size < placeCount; n += 1) {
    const place = Math.floor(slotOf(String(n)) / (slotCount / placeCount));
    if (!tags.has(place)) tags.set(place, String(n));
  }
  return Array.from({ length: placeCount }, (_, place) => tags.get(place) ?? '');
};

/** The hash tag of each place, in the order of their slots. */
export const placeTags = findTags();

export const partnerOf = (place: number): number => (place + placeCount / 2) % placeCount;
