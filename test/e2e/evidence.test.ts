import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64, utf8 } from '../../contracts/bytes.ts';
import { canonicalize, type Json } from '../../contracts/json.ts';
import { type GeneralJws, jwsText } from '../../contracts/ledger/jws.ts';
import { type KeyEvent, publicText } from '../../contracts/ledger/public-entries.ts';
import { receipt as receiptForm, receiptText, type TrustFile } from '../../contracts/ledger/receipt.ts';
import { verifyReceipt } from '../../contracts/ledger/verify.ts';
import { formatTime } from '../../contracts/time.ts';
import { makeLeafKey, signedBy, signWithLeafKey } from '../../kernel/assertions.ts';
import { systemClock } from '../../kernel/clock.ts';
import { type BrokerBench, brokerBench, type Operated } from '../support/broker-bench.ts';
import {
  acquire,
  type ConnectorBench,
  connectorBench,
  joinBroker,
  type OperatedConnector,
} from '../support/chain-world.ts';
import { changed, expectedSteps, partOf, placesIn, replaceAt } from '../support/changed-receipts.ts';
import { keysOf, rowsOf, tokensOf } from '../support/hostile.ts';
import { readOnce } from '../support/readers.ts';
import { atLast, trustIn, verifyTools } from '../support/settled.ts';

/** Evidence of one real access, and what is tried against the log by those who are in it (ledger §11, §17). */

const purpose = 'urn:stekker:1:purpose:crisis';

let brokerSide: BrokerBench;
let broker: Operated;
let holderSide: ConnectorBench;
let runtimeSide: ConnectorBench;
let holder: OperatedConnector;
let runtime: OperatedConnector;
let trust: TrustFile;
let file: Json;

/** One access, stated, registered, with its receipt as the consumer gets it. */
const fetchReceipt = async (): Promise<Json> => {
  const path = join(holderSide.folder, 'levels.json');
  writeFileSync(path, JSON.stringify({ levels: [1, 2, 3] }));
  const published = await holder.operate('POST', '/v1/publications', {
    title: 'Waterstanden',
    upstream: { kind: 'file', path },
    policy: { template: 'purpose', parameters: { purpose } },
    price: { currency: 'EUR', scale: '4', lines: [{ unit: 'requests', quantity: '1', value: '25' }] },
  });
  const dataset = String((published.body.asset as { id: string }).id);
  const { agreementId, dataUrl } = await acquire(runtime, { provider: holderSide.did, dataset });
  const application = 'urn:stekker:1:app:evacuatie@1.0.0';
  const { key } = (await runtime.operate('POST', '/v1/applications', { application })).body;
  const headers = { authorization: `Bearer ${String(key)}`, 'stekker-purpose': purpose };
  const { request, status } = await atLast('an access', async () => {
    const reading = await readOnce(dataUrl, headers);
    return reading.status === 200 ? reading : undefined;
  });
  expect(status).toBe(200);
  await runtime.operate('POST', `/v1/agreements/${encodeURIComponent(agreementId)}/end`, { reason: 'done' });
  return atLast('a receipt', async () => {
    const answer = await runtime.operate('GET', `/v1/receipts/${request}`);
    return answer.status === 200 ? (answer.body as Json) : undefined;
  });
};

beforeAll(async () => {
  brokerSide = await brokerBench();
  broker = await brokerSide.start();
  const env = { STEKKER_BROKER_URL: brokerSide.origin };
  holderSide = await connectorBench(env);
  runtimeSide = await connectorBench(env);
  [holder, runtime] = await Promise.all([holderSide.start(), runtimeSide.start()]);
  for (const connector of [holder, runtime]) await joinBroker(broker, connector);
  trust = await trustIn(brokerSide.origin);
  file = await fetchReceipt();
});
afterAll(async () => {
  for (const one of [runtime, holder, broker, runtimeSide, holderSide, brokerSide]) await one?.[Symbol.asyncDispose]();
});

describe('the receipt of a real access', () => {
  test('verifies for whoever trusts the log, and each field of it, changed in turn, is found at the right step', () => {
    expect(receiptText(receiptForm.parse(file))).toBe(canonicalize(file));
    expect(verifyReceipt(verifyTools, trust, canonicalize(file)).code).toBe(0);
    const places = placesIn(file);
    expect(places.length).toBeGreaterThan(90);
    for (const { path } of places) {
      const { code, steps } = verifyReceipt(verifyTools, trust, canonicalize(replaceAt(file, path, changed)));
      const found = steps.filter(({ state }) => state === 'failed').map(({ step }) => step);
      const where = path.join('.');
      expect(code === 1 || code === 2, `${where} gives ${code}`).toBe(true);
      expect(expectedSteps[partOf(path)] ?? [], `${where} was found at ${found}`).toContain(found[0]);
    }
  });
});

/** Hands something to the log as a member does; what the broker says. */
const register = async (
  by: ConnectorBench,
  body: unknown,
): Promise<{ readonly status: number; readonly said: string }> => {
  const tokens = await tokensOf(by);
  const answer = await fetch(`${brokerSide.origin}/log/entries`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: tokens.tokenFor({ audience: brokerSide.did }) },
    body: JSON.stringify(body),
  });
  return { status: answer.status, said: await answer.text() };
};

const logSize = async (): Promise<number> => Number((await broker.operate('GET', '/v1/log')).body.size);

/** A key event after the first one of a DID, signed by somebody's own keys. */
const keyEventOf = async (by: ConnectorBench, changes: Partial<KeyEvent>): Promise<GeneralJws> => {
  const keys = await keysOf(by);
  const event: KeyEvent = {
    v: 1,
    type: 'key-event',
    did: by.did,
    event: 'introduce',
    seq: '2',
    prev: toPrev,
    document: null,
    keys: [],
    at: formatTime(systemClock.now()),
    ...changes,
  };
  return signedBy(keys, publicText(event), 'stekker-key-event+jws');
};
/** No event has this digest; what is refused for its keys or its signature is refused before that. */
const toPrev = 'A'.repeat(43);

describe('a member of the log', () => {
  test('cannot introduce a key in the name of another', async () => {
    const before = await logSize();
    const { assertion } = await keysOf(runtimeSide);
    const kid = `${holderSide.did}#mine`;
    const keys: KeyEvent['keys'] = [{ kid, use: ['assertionMethod'], spki: toBase64(assertion.spki) }];
    const artifact = await keyEventOf(runtimeSide, { did: holderSide.did, keys });
    const byOther = await register(runtimeSide, { kind: 'key-event', artifact });
    expect([byOther.status, byOther.said]).toEqual([403, expect.stringContaining('by its own DID')]);
    const byItself = await register(holderSide, { kind: 'key-event', artifact });
    expect([byItself.status, byItself.said]).toEqual([422, expect.stringContaining('entry-refused')]);
    expect(await logSize()).toBe(before);
  });

  test('cannot introduce a key of small order', async () => {
    const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from([1]), Buffer.alloc(31)]);
    const keys: KeyEvent['keys'] = [{ kid: `${holderSide.did}#weak`, use: ['assertionMethod'], spki: toBase64(spki) }];
    const refused = await register(holderSide, { kind: 'key-event', artifact: await keyEventOf(holderSide, { keys }) });
    expect([refused.status, refused.said]).toEqual([422, expect.stringContaining('safe Ed25519 key')]);
  });

  test('cannot register a real statement with a garbage second signature', async () => {
    const before = await logSize();
    const [row] = rowsOf(runtimeSide, 'select artifact, sums from statement order by seq desc limit 1');
    const { payload } = JSON.parse(String(row?.artifact)) as GeneralJws;
    const leafKey = makeLeafKey();
    const real = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { readonly [name: string]: Json };
    const text = canonicalize({ ...real, leafKey: leafKey.id });
    const typ = 'stekker-usage-statement+jws';
    const [ours, theirs] = [
      signedBy(await keysOf(holderSide), text, typ),
      signedBy(await keysOf(runtimeSide), text, typ),
    ];
    const garbage = theirs.signatures.map((one) => ({ ...one, signature: changed(one.signature) as string }));
    const artifact: GeneralJws = { payload: ours.payload, signatures: [...ours.signatures, ...garbage] };
    const leaf = signWithLeafKey(leafKey.privateJwk, utf8(jwsText(artifact)));
    const body = { kind: 'usage-statement', artifact, ...leaf, sums: JSON.parse(String(row?.sums)) };
    const refused = await register(runtimeSide, body);
    expect([refused.status, refused.said]).toEqual([422, expect.stringContaining('does not hold')]);
    expect(await logSize()).toBe(before);
  });
});
