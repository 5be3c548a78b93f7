const form = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/;

/** Integer milliseconds as `YYYY-MM-DDTHH:MM:SS.mmmZ`, the one form of our own artifacts (ledger §2). */
export const formatTime = (ms: number): string => {
  // biome-ignore lint/style/noRestrictedGlobals: formatting an instant, not reading the time
  return new Date(ms).toISOString();
};

/** Milliseconds of a time in exactly that form, or undefined; `2026-02-30…` is no time. */
export const parseTime = (text: string): number | undefined => {
  if (!form.test(text)) return undefined;
  // biome-ignore lint/style/noRestrictedGlobals: parsing an instant, not reading the time
  const ms = Date.parse(text);
  return Number.isNaN(ms) || formatTime(ms) !== text ? undefined : ms;
};

const peerForm = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|[+-]\d{2}:\d{2})$/;

/** Milliseconds of an RFC 3339 time of a peer: 0 to 9 fraction digits (cut to three), any offset (dsp §2). */
export const parsePeerTime = (text: string): number | undefined => {
  const match = peerForm.exec(text);
  if (match === null) return undefined;
  const [, seconds = '', fraction = '', zone = ''] = match;
  // biome-ignore lint/style/noRestrictedGlobals: parsing an instant, not reading the time
  const ms = Date.parse(`${seconds}.${fraction.padEnd(3, '0').slice(0, 3)}${zone}`);
  return Number.isNaN(ms) ? undefined : ms;
};
