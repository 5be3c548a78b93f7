import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TokenService } from '../../kernel/auth.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { type BrokerBench, brokerBench, type Operated, until } from '../support/broker-bench.ts';
import {
  acquire,
  type ConnectorBench,
  connectorBench,
  joinBroker,
  type OperatedConnector,
} from '../support/chain-world.ts';
import {
  type Access,
  access,
  askToken,
  type HostileKey,
  hostileKey,
  journalOf,
  type KnownTransfer,
  makeAccess,
  newRequestId,
  tokensOf,
  transferUnder,
  type Wish,
} from '../support/hostile.ts';

/**
 * Who may not have data gets none, from real services over real HTTP (wire §4, §5, §7): each refusal with its status, its
 * reasons in two languages, and its record or none. Proofs are made by hand, as a hostile consumer would.
 */

const purpose = 'urn:stekker:1:purpose:crisis';
const application = 'urn:stekker:1:app:evacuatie@1.0.0';
const text = JSON.stringify({ levels: [1, 2, 3] });
const bigBytes = 48 << 20;
const twoLanguages = expect.arrayContaining([
  expect.objectContaining({ nl: expect.stringMatching(/\S/), en: expect.stringMatching(/\S/) }),
]);

let brokerSide: BrokerBench;
let accreditorSide: BrokerBench;
let holderSide: ConnectorBench;
let runtimeSide: ConnectorBench;
let guestSide: ConnectorBench;
let broker: Operated;
let accreditor: Operated;
let holder: OperatedConnector;
let runtime: OperatedConnector;
let guest: OperatedConnector;
let tokens: TokenService;

/** A dataset under an agreement, with the grant that opens it. */
interface Held {
  readonly agreementId: string;
  readonly dataUrl: string;
  readonly transfer: KnownTransfer;
}

const publish = async (its: Record<string, unknown>): Promise<string> => {
  const published = await holder.operate('POST', '/v1/publications', {
    policy: { template: 'purpose', parameters: { purpose } },
    ...its,
  });
  expect(published.status, JSON.stringify(published.body)).toBe(201);
  return String((published.body.asset as { id: string }).id);
};

const file = (name: string, body: string | Uint8Array): { kind: 'file'; path: string } => {
  const path = join(holderSide.folder, name);
  writeFileSync(path, body);
  return { kind: 'file', path };
};

const hold = async (dataset: string, consumer = runtime, side = runtimeSide): Promise<Held> => {
  const { agreementId, dataUrl } = await acquire(consumer, { provider: holderSide.did, dataset });
  return { agreementId, dataUrl, transfer: transferUnder(side, agreementId) };
};

const wish = (held: Held, key: HostileKey, its: Partial<Wish> = {}): Wish => ({
  transfer: held.transfer,
  key,
  provider: holderSide.did,
  ...its,
});

/** A token of one's own, and how to ask with it. */
const open = async (held: Held, as: TokenService = tokens) => {
  const key = await hostileKey();
  const asked = await until(async () => {
    const answer = await askToken(as, wish(held, key));
    return answer.status === 503 ? undefined : answer;
  });
  expect(asked.status, JSON.stringify(asked.body)).toBe(200);
  return { endpoint: held.transfer.endpoint, key, token: asked.token };
};

const recordsAt = async (side: ConnectorBench, role: 'provider' | 'consumer') => [
  ...(await journalOf(side, role)).values(),
];

/** Runs what must be refused: whatever it is, neither side has written anything down afterwards. */
const unrecorded = async <Result>(work: () => Promise<Result>): Promise<Result> => {
  const count = async () => (await recordsAt(holderSide, 'provider')).length;
  const ours = async () => (await recordsAt(runtimeSide, 'consumer')).length;
  const before = [await count(), await ours()];
  const result = await work();
  expect([await count(), await ours()]).toEqual(before);
  return result;
};

const problem = ({ text: body }: { readonly text: string }) => JSON.parse(body) as Record<string, unknown>;
const code = (name: string): string => `urn:stekker:1:error:${name}`;

const restartHolder = async (
  changes: Parameters<ConnectorBench['start']>[0] = {},
  options: Parameters<ConnectorBench['start']>[1] = {},
): Promise<void> => {
  await holder[Symbol.asyncDispose]();
  holder = await holderSide.start(changes, options);
};

const joinAll = async (): Promise<void> => {
  await joinBroker(broker, holder);
  await joinBroker(broker, runtime, { roles: ['application-runtime'] });
  await joinBroker(broker, guest, { roles: ['application-runtime'] });
  const invitation = { did: accreditorSide.did, name: 'Keurmeester', roles: ['accreditor'] };
  const { joinCode } = (await broker.operate('POST', '/v1/invitations', invitation)).body;
  expect((await accreditor.operate('POST', '/v1/join', { code: joinCode })).status).toBe(200);
};

/** Version 1.0.0 of the application is accredited for our purpose, and no other. */
const accredit = async (): Promise<void> => {
  const decided = await accreditor.operate('POST', '/v1/accreditations', {
    holder: runtimeSide.did,
    application: { id: 'urn:stekker:1:app:evacuatie', version: '1.0.0', digest: 'sha256-abc' },
    purposes: [purpose],
    criteria: { id: 'urn:stekker:1:criteria:models', version: '1' },
    validDays: 30,
  });
  expect(decided.status, JSON.stringify(decided.body)).toBe(201);
  await until(async () => {
    const { items } = (await runtime.operate('GET', '/v1/credentials')).body;
    const held = items as { type: string }[];
    return held.some(({ type }) => type === 'ApplicationAccreditationCredential') ? true : undefined;
  });
};

beforeAll(async () => {
  brokerSide = await brokerBench();
  accreditorSide = await brokerBench({ STEKKER_ROLE: 'accreditor', STEKKER_BROKER_URL: brokerSide.origin });
  const env = { STEKKER_BROKER_URL: brokerSide.origin, STEKKER_ACCREDITORS: accreditorSide.did };
  broker = await brokerSide.start({ STEKKER_ACCREDITORS: [accreditorSide.did] });
  accreditor = await accreditorSide.start();
  holderSide = await connectorBench({ ...env, STEKKER_NAME: 'Waterschap' });
  runtimeSide = await connectorBench({ ...env, STEKKER_NAME: 'Veiligheidsregio' });
  guestSide = await connectorBench({ ...env, STEKKER_NAME: 'Gast' });
  [holder, runtime, guest] = await Promise.all([holderSide.start(), runtimeSide.start(), guestSide.start()]);
  await joinAll();
  await accredit();
  tokens = await tokensOf(runtimeSide);
});
afterAll(async () => {
  const all = [guest, runtime, holder, accreditor, broker];
  const sides = [guestSide, runtimeSide, holderSide, accreditorSide, brokerSide];
  for (const one of [...all, ...sides]) await one?.[Symbol.asyncDispose]();
});

describe('a proof that was made by hand', () => {
  let levels: Held;
  let other: Held;
  beforeAll(async () => {
    levels = await hold(await publish({ title: 'Waterstanden', upstream: file('levels.json', text) }));
    other = await hold(await publish({ title: 'Neerslag', upstream: file('rain.json', text) }));
  });

  test('opens what it is for, once, with a record; its repeat is 409, also after a restart of the provider', async () => {
    const its = await open(levels);
    const first = await access(its);
    expect([first.status, first.text]).toEqual([200, text]);
    const recorded = await until(async () => {
      const found = (await journalOf(holderSide, 'provider')).get(`${first.request} 1`);
      return found?.close === undefined ? undefined : found;
    });
    expect(recorded).toMatchObject({
      open: { application, purpose, proof: first.proof },
      close: { bytes: text.length, outcome: 'ok', status: '200' },
    });
    const again = () => unrecorded(() => access({ ...its, request: first.request, proof: first.proof }));
    const repeated = await again();
    expect([repeated.status, problem(repeated).type]).toEqual([409, code('request-repeated')]);
    await restartHolder();
    const later = await again();
    expect([later.status, problem(later).type]).toEqual([409, code('request-repeated')]);
    expect((await access(its)).status).toBe(200); // a proof of its own, under the same token, still does
  });

  const wrong: readonly (readonly [what: string, change: (its: Access) => Promise<Access> | Access])[] = [
    ['another key', async (its) => ({ ...its, key: await hostileKey() })],
    ['another target', (its) => ({ ...its, says: { target: '/somewhere/else' } })],
    ['another query', (its) => ({ ...its, rest: '?a=1', says: { target: new URL(its.endpoint).pathname } })],
    ['another address', (its) => ({ ...its, says: { htu: 'http://localhost:1/x/' } })],
    ['another range', (its) => ({ ...its, range: 'bytes=0-3', says: { range: 'bytes=0-9' } })],
    ['a range that it does not name', (its) => ({ ...its, range: 'bytes=0-3', says: { range: '' } })],
    ['another time', (its) => ({ ...its, says: { iat: Math.floor(systemClock.now() / 1_000) - 90 } })],
  ];
  test.each(wrong)('with %s is 401, and nothing is recorded', async (_what, change) => {
    const its = await open(levels);
    const refused = await unrecorded(async () => access(await change(its)));
    expect([refused.status, problem(refused).type]).toEqual([401, code('proof-invalid')]);
    expect((await access(its)).status).toBe(200);
  });

  test('with the token of another transfer is 401', async () => {
    const its = await open(levels);
    const refused = await unrecorded(() => access({ ...its, endpoint: other.transfer.endpoint }));
    expect([refused.status, problem(refused).type]).toEqual([401, code('token-invalid')]);
  });

  test('with a token that has expired is 401', async () => {
    const its = await open(levels);
    const ahead: Clock = { ...systemClock, now: () => systemClock.now() + 301_000 };
    await restartHolder({}, { clock: ahead });
    const request = newRequestId(ahead);
    const says = { iat: Math.floor(ahead.now() / 1_000) };
    const refused = await unrecorded(() => access({ ...its, request, says }));
    expect([refused.status, problem(refused).type]).toEqual([401, code('token-invalid')]);
    expect(problem(refused).detail).toContain('expired');
    await restartHolder();
  });

  test('with a token for the data plane of another name is 401', async () => {
    const its = await open(levels);
    const origin = holderSide.dataOrigin.replace('localhost', '127.0.0.1');
    await restartHolder({ STEKKER_DATA_URL: origin });
    const endpoint = its.endpoint.replace('localhost', '127.0.0.1');
    const refused = await unrecorded(() => access({ ...its, endpoint }));
    expect([refused.status, problem(refused).type]).toEqual([401, code('token-invalid')]);
    await restartHolder();
    await until(async () => ((await access(its)).status === 200 ? true : undefined));
  });
});

describe('the token endpoint', () => {
  let levels: Held;
  let accredited: Held;
  beforeAll(async () => {
    levels = await hold(await publish({ title: 'Debieten', upstream: file('flow.json', text) }));
    const policy = { template: 'accredited', parameters: { broker: brokerSide.did, purpose } };
    accredited = await hold(await publish({ title: 'Peilschalen', upstream: file('gauge.json', text), policy }));
  });
  const ask = async (held: Held, its: Partial<Wish>) =>
    unrecorded(async () => askToken(tokens, wish(held, await hostileKey(), its)));

  test('gives nothing to a caller whose word is for somebody else', async () => {
    const refused = await ask(levels, { audience: runtimeSide.did });
    expect([refused.status, refused.body.error]).toEqual([401, 'invalid_client']);
  });

  test('gives nothing for a grant of somebody else', async () => {
    const theirs = await tokensOf(guestSide);
    const key = await hostileKey();
    const refused = await unrecorded(() => askToken(theirs, wish(levels, key)));
    expect([refused.status, refused.body.error]).toEqual([400, 'invalid_grant']);
  });

  test('gives nothing for a wrong purpose, and says why in two languages; the gateway passes it on', async () => {
    const wrong = 'urn:stekker:1:purpose:marketing';
    const refused = await ask(levels, { purpose: wrong });
    expect(refused).toMatchObject({ status: 403, body: { error: 'policy_denied', reasons: twoLanguages } });
    const { key } = (await runtime.operate('POST', '/v1/applications', { application })).body;
    const headers = { authorization: `Bearer ${String(key)}`, 'stekker-purpose': wrong };
    const passed = await unrecorded(() => fetch(levels.dataUrl, { headers }));
    expect(passed.status).toBe(403);
    expect(await passed.json()).toMatchObject({ type: code('policy-denied'), reasons: twoLanguages });
  });

  test('gives nothing to a version of the application that has no accreditation', async () => {
    const refused = await ask(accredited, { application: 'urn:stekker:1:app:evacuatie@2.0.0' });
    expect(refused).toMatchObject({ status: 403, body: { error: 'policy_denied', reasons: twoLanguages } });
    const its = await open(accredited);
    expect((await access(its)).text).toBe(text);
  });

  test('gives nothing under an agreement that has ended, and what was given opens nothing more', async () => {
    const held = await hold(await publish({ title: 'Voor even', upstream: file('short.json', text) }));
    const its = await open(held);
    expect((await access(its)).status).toBe(200);
    const path = `/v1/agreements/${encodeURIComponent(held.agreementId)}/end`;
    expect((await holder.operate('POST', path, { reason: 'done' })).status).toBeLessThan(300);
    const late = await unrecorded(() => access(its));
    expect([late.status, problem(late).type]).toEqual([401, code('token-invalid')]);
    const refused = await ask(held, {});
    expect([refused.status, refused.body.error]).toEqual([400, 'invalid_grant']);
    const { key } = (await runtime.operate('POST', '/v1/applications', { application: `${application}-late` })).body;
    const headers = { authorization: `Bearer ${String(key)}`, 'stekker-purpose': purpose };
    await until(async () => {
      const answer = await fetch(held.dataUrl, { headers });
      await answer.arrayBuffer();
      return answer.status === 400 ? true : undefined;
    });
    const ended = await unrecorded(() => fetch(held.dataUrl, { headers }));
    expect(await ended.json()).toMatchObject({ type: code('agreement-ended') });
  });
});

/** Reads slowly, and tells when and after how much the body broke off. */
const readSlowly = (url: string, headers: Readonly<Record<string, string>>) => {
  const ended = Promise.withResolvers<{ bytes: number; isWhole: boolean; status: number }>();
  const begun = Promise.withResolvers<void>();
  let bytes = 0;
  const take = (answer: IncomingMessage): void => {
    const finish = (isWhole: boolean) => ended.resolve({ bytes, isWhole, status: answer.statusCode ?? 0 });
    answer.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > 256 << 10) begun.resolve();
      answer.pause();
      setTimeout(() => answer.resume(), 10);
    });
    answer.on('end', () => finish(answer.complete));
    answer.on('error', () => finish(false));
  };
  const sent = httpRequest(url, { headers, agent: false }, take);
  sent.on('error', () => ended.resolve({ bytes, isWhole: false, status: 0 }));
  sent.end();
  return { begun: begun.promise, ended: ended.promise };
};

/** The record of the last part of a request, once it is closed. */
const closedRecord = (side: ConnectorBench, role: 'provider' | 'consumer', request: string) =>
  until(async () => {
    const found = (await journalOf(side, role)).get(`${request} 1`);
    return found?.close === undefined ? undefined : found;
  });

describe('a revocation', () => {
  test('cuts a running stream within five seconds, on both sides, and the records say how far it came', async () => {
    const upstream = file('big.bin', randomBytes(bigBytes));
    const held = await hold(await publish({ title: 'Hoogtebestand', upstream }), guest, guestSide);
    const theirs = await tokensOf(guestSide);
    const its = await open(held, theirs);
    const { key } = (await guest.operate('POST', '/v1/applications', { application })).body;
    const made = await makeAccess(its);
    const direct = readSlowly(made.url, made.headers);
    const headers = { authorization: `Bearer ${String(key)}`, 'stekker-purpose': purpose };
    const through = readSlowly(held.dataUrl, headers);
    await Promise.all([direct.begun, through.begun]);

    const list = await broker.operate('GET', `/v1/credentials?holder=${encodeURIComponent(guestSide.did)}`);
    const [membership] = list.body.items as { id: string }[];
    const path = `/v1/credentials/${encodeURIComponent(membership?.id ?? '')}/revocation`;
    const revokedAt = systemClock.now();
    expect((await broker.operate('POST', path, { reason: 'left' })).status).toBe(200);
    const cut = await direct.ended;
    expect(systemClock.now() - revokedAt).toBeLessThanOrEqual(5_000);
    expect(cut).toMatchObject({ isWhole: false, status: 200 });
    expect(await through.ended).toMatchObject({ isWhole: false, status: 200 });

    const { close } = await closedRecord(holderSide, 'provider', made.request);
    expect(close).toMatchObject({ outcome: 'partial', status: '200' });
    expect(close?.bytes).toBeGreaterThanOrEqual(cut.bytes);
    expect(close?.bytes).toBeLessThan(bigBytes);
    const consumed = await recordsAt(guestSide, 'consumer');
    expect(consumed).toHaveLength(1);
    const theirRecord = await closedRecord(guestSide, 'consumer', consumed[0]?.open.request ?? '');
    const ours = await closedRecord(holderSide, 'provider', consumed[0]?.open.request ?? '');
    expect([theirRecord.close?.outcome, ours.close?.outcome]).toEqual(['partial', 'partial']);
    expect(theirRecord.close?.bytes).toBeLessThanOrEqual(ours.close?.bytes ?? 0);

    const late = await unrecorded(() => access(its));
    expect([late.status, problem(late).type]).toEqual([403, code('revoked')]);
    const refused = await unrecorded(async () => askToken(theirs, wish(held, await hostileKey())));
    expect([refused.status, refused.body.error]).toEqual([401, 'invalid_client']); // it shows no membership that counts
  });
});

describe('a silent broker', () => {
  test('strict stops after three seconds, grace of two goes on, marked, and stops too; both go on when it speaks', async () => {
    const upstream = file('silence.json', text);
    const strict = await hold(await publish({ title: 'Streng', upstream, silence: 'strict' }));
    const graceful = await hold(await publish({ title: 'Met respijt', upstream, silence: 2_000 }));
    const slow = await hold(
      await publish({ title: 'Streng en groot', upstream: file('slow.bin', randomBytes(bigBytes)), silence: 'strict' }),
    );
    const [strictly, gracefully, slowly] = [await open(strict), await open(graceful), await open(slow)];
    for (const its of [strictly, gracefully]) expect((await access(its)).status).toBe(200);
    const made = await makeAccess(slowly);
    const stream = readSlowly(made.url, made.headers);
    await stream.begun;

    const stopping = broker[Symbol.asyncDispose]();
    const seen: { readonly which: 'strict' | 'grace'; readonly status: number; readonly request: string }[] = [];
    await until(async () => {
      for (const [which, its] of [['strict', strictly] as const, ['grace', gracefully] as const])
        seen.push({ which, ...(await access(its)) });
      await systemClock.sleep(100);
      return seen.at(-1)?.status === 503 ? true : undefined;
    });
    await stopping;
    const statuses = (which: string) => seen.flatMap((one) => (one.which === which ? [one.status] : []));
    for (const which of ['strict', 'grace']) {
      const first = statuses(which).indexOf(503);
      expect(new Set(statuses(which).slice(0, first))).toEqual(new Set([200]));
      expect(new Set(statuses(which).slice(first))).toEqual(new Set([503]));
    }
    expect(statuses('strict').indexOf(503)).toBeLessThan(statuses('grace').indexOf(503));
    expect(await stream.ended).toMatchObject({ isWhole: false, status: 200 });
    expect((await closedRecord(holderSide, 'provider', made.request)).close).toMatchObject({ outcome: 'partial' });

    const records = await journalOf(holderSide, 'provider');
    for (const { request, status } of seen) {
      const record = records.get(`${request} 1`);
      if (status === 200) expect(record).toBeDefined();
      // What was refused between its record and its first byte has one that says so, and charges nothing.
      else if (record !== undefined) expect(record.close).toMatchObject({ status: '503', units: {} });
    }
    const ages = seen.flatMap(({ which, status, request }) =>
      which === 'grace' && status === 200 ? [records.get(`${request} 1`)?.open.ext] : [],
    );
    expect(ages.some((ext) => ext !== null)).toBe(true);
    expect(ages.at(-1)).toMatchObject({ statusAge: expect.stringMatching(/^[3-5]$/) });
    const refused = await unrecorded(async () => askToken(tokens, wish(strict, await hostileKey())));
    expect([refused.status, refused.body.error]).toEqual([503, 'status_unknown']);

    broker = await brokerSide.start({ STEKKER_ACCREDITORS: [accreditorSide.did] });
    for (const its of [strictly, gracefully])
      await until(async () => ((await access(its)).status === 200 ? true : undefined));
  });
});
