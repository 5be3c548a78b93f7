import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Fails when a secret stands in the output of a run. Every secret that a test makes carries a marker (test/support/secrets.ts),
 * so that one search over all output shows whether anything secret was printed (DESIGN §5.7): plainly, or inside base64.
 * What services make by themselves is found by its form: a signed token, a private key.
 */
export const secretMarker = ['geheim', 'marker'].join('-');

/** How a text looks inside base64, at each of the three places where it can begin; without the characters that others share. */
const insideBase64 = (text: string): string[] =>
  [0, 1, 2].flatMap((shift) => {
    const first = Math.ceil((shift * 8) / 6);
    const last = Math.floor(((shift + text.length) * 8) / 6);
    const bytes = Buffer.concat([Buffer.alloc(shift), Buffer.from(text), Buffer.alloc(2)]);
    return (['base64', 'base64url'] as const).map((form) => bytes.toString(form).slice(first, last));
  });

const texts: readonly string[] = [secretMarker, ...insideBase64(secretMarker)];

const forms: readonly (readonly [what: string, form: RegExp])[] = [
  ['a signed token', /\beyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{40,}/],
  ['a private key', /-----BEGIN [A-Z ]*PRIVATE KEY-----/],
  ['a private key', /"d"\s*:\s*"[A-Za-z0-9_-]{40,}"/],
];

/** What secret stands in a text, never the secret itself; undefined when there is none. */
export const secretIn = (text: string): string | undefined => {
  if (texts.some((needle) => text.includes(needle))) return 'a marked secret';
  return forms.find(([, form]) => form.test(text))?.[0];
};

if (import.meta.main) {
  const folder = process.argv[2];
  if (folder === undefined) throw new Error('usage: find-secrets FOLDER');
  const files = readdirSync(folder).filter((name) => name.endsWith('.txt'));
  if (files.length === 0) throw new Error(`no output to search in ${folder}`);
  const read = files.map((name) => ({ name, text: readFileSync(join(folder, name), 'utf8') }));
  const hits = read.flatMap(({ name, text }) => {
    const what = secretIn(text);
    return what === undefined ? [] : [`${what} was printed in stage ${name}`];
  });
  const characters = read.reduce((sum, { text }) => sum + text.length, 0);
  console.log(`${files.length} outputs of ${characters} characters searched for secrets, ${hits.length} with a secret`);
  for (const hit of hits) console.log(hit);
  if (hits.length > 0 || characters === 0) process.exitCode = 1;
}
