import { writeFileSync } from 'node:fs';
import { z } from 'zod';
import { readSecret } from './folder.ts';
import { type Answer, ask } from './http.ts';
import type { ApplicationKeys } from './joining.ts';
import type { Agreements } from './market.ts';
import { pause } from './processes.ts';
import { purpose, type Scene } from './scene.ts';

/** What is refused, and why: wrong purpose, a version that nobody judged, a copied request, a revoked membership. */

export interface Refusal {
  readonly case: string;
  readonly status: number;
  readonly reason: string;
}

const problem = z.looseObject({
  title: z.string(),
  detail: z.string().optional(),
  reasons: z.array(z.looseObject({ en: z.string() })).optional(),
});

const reasonOf = ({ text }: Answer): string => {
  const { title, detail, reasons = [] } = problem.parse(JSON.parse(text));
  const [first] = reasons;
  return first?.en ?? detail ?? title;
};

/** A refusal as it must be. @throws when something else came back. */
const refused = (name: string, answer: Answer, status: number): Refusal => {
  if (answer.status === status) return { case: name, status, reason: reasonOf(answer) };
  throw new Error(`${name} should be refused with ${status}; the answer was ${answer.status}`);
};

/** An own application asks its own connector. */
const fromGateway = (
  { stack, signal }: Scene,
  its: { readonly agreement: string; readonly path: string; readonly keyFile: string; readonly purpose: string },
): Promise<Answer> =>
  ask(`${stack.runtime.gatewayUrl}/data/${encodeURIComponent(its.agreement)}/${its.path}`, {
    signal,
    headers: { authorization: `Bearer ${readSecret(its.keyFile)}`, 'stekker-purpose': its.purpose },
  });

const onePlace = 'collections/places/items?limit=1';

const wrongPurpose = async (scene: Scene, keys: ApplicationKeys, { places }: Agreements): Promise<Refusal> => {
  const marketing = 'urn:stekker:1:purpose:marketing';
  const agreement = places.agreementId;
  const use = { agreement, path: onePlace, keyFile: keys.accredited, purpose: marketing };
  return refused('wrong-purpose', await fromGateway(scene, use), 403);
};

const notAccredited = async (scene: Scene, keys: ApplicationKeys, { water }: Agreements): Promise<Refusal> => {
  const use = { agreement: water.agreementId, path: 'collections/gauges/items', keyFile: keys.newer, purpose };
  return refused('version-not-accredited', await fromGateway(scene, use), 403);
};

/** The one on the line copies a request that was served, token and proof included, and sends it once more. */
const replayed = async ({ folder, stack, signal }: Scene): Promise<Refusal> => {
  const copied = stack.tap.seen.findLast(({ method, headers }) => method === 'GET' && headers.dpop !== undefined);
  if (copied === undefined) throw new Error('nothing passed the one on the line');
  writeFileSync(folder.at('secrets', 'copied-request.json'), JSON.stringify(copied, null, 1), { mode: 0o600 });
  const { authorization = '', dpop } = copied.headers;
  const headers = {
    authorization,
    dpop: String(dpop),
    'fsc-transaction-id': String(copied.headers['fsc-transaction-id']),
  };
  return refused('replayed-proof', await ask(`${stack.tap.url}${copied.path}`, { signal, headers }), 409);
};

const served = 200;
const refusedStatus = 403;
/** An access that was under way when it was stopped: its connection is cut. */
const cutOff: Answer = { status: 0, headers: new Headers(), text: '' };
const pollMs = 50;
/** For so long it must stay refused. */
const watchMs = 1_000;
const stopsWithinMs = 5_000;
const revoked = z.array(z.looseObject({ standing: z.literal('revoked') })).min(1);

/** A running poll, a revocation, and the time until nothing is served any more. */
const revokedMembership = async (
  scene: Scene,
  keys: ApplicationKeys,
  { borders }: Agreements,
): Promise<{ readonly refusal: Refusal; readonly revocationMs: number }> => {
  const { terminal, stack, signal } = scene;
  const { broker, runtime } = stack;
  const use = { agreement: borders.agreementId, path: 'collections/borders', keyFile: keys.accredited, purpose };
  const poll = () => fromGateway(scene, use).catch(() => cutOff);
  if ((await poll()).status !== served) throw new Error('the poll does not run');
  const startedAt = performance.now();
  const args = ['revoke', '--holder', runtime.did, '--type', 'membership', '--reason', 'shown by the demo'];
  const revoking = terminal.run(broker.operator, args, revoked);
  let servedUntil = startedAt;
  let answer = await poll();
  while (answer.status !== refusedStatus && performance.now() - startedAt < 2 * stopsWithinMs) {
    if (answer.status === served) servedUntil = performance.now();
    await pause(pollMs, signal);
    answer = await poll();
  }
  const refusedAt = performance.now();
  await revoking;
  const revocationMs = Math.round(refusedAt - startedAt);
  if (servedUntil - startedAt > stopsWithinMs)
    throw new Error(`a revoked membership worked for ${revocationMs} ms more`);
  const refusal = refused('revoked-membership', answer, refusedStatus);
  for (const until = performance.now() + watchMs; performance.now() < until; await pause(pollMs, signal))
    if ((await poll()).status === served) throw new Error('a revoked membership works again');
  return { refusal, revocationMs };
};

export const showRefusals = async (
  scene: Scene,
  keys: ApplicationKeys,
  agreements: Agreements,
): Promise<{ readonly refusals: readonly Refusal[]; readonly revocationMs: number }> => {
  const { report } = scene;
  const first = [
    await replayed(scene),
    await wrongPurpose(scene, keys, agreements),
    await notAccredited(scene, keys, agreements),
  ];
  const { refusal, revocationMs } = await revokedMembership(scene, keys, agreements);
  const refusals = [...first, refusal];
  report.table([['case', 'status', 'reason'], ...refusals.map((one) => [one.case, String(one.status), one.reason])]);
  report.say(`From the decision to revoke until nothing was served any more: ${revocationMs} ms.`);
  return { refusals, revocationMs };
};
