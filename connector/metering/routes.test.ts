import { describe, expect, test } from 'vitest';
import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { maxPageRecords } from '../../contracts/ledger/draft.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import {
  access,
  complete,
  consumerDid,
  digestOf,
  endBoth,
  type MeterPair,
  providerDid,
  startMeterPair,
  us,
} from '../../test/support/meter-pair.ts';

const post = async (
  pair: MeterPair,
  to: Did,
  path: string,
  body: Json | string,
  its: { from?: Did; type?: string } = {},
) => {
  const app = pair.network.apps.get(to);
  if (app === undefined) throw new Error('nobody is there');
  const response = await app.request(`/ext/1/statements/${path}`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: {
      'content-type': its.type ?? 'application/json',
      authorization: its.from ?? (to === providerDid ? consumerDid : providerDid),
    },
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text === '' ? undefined : JSON.parse(text) };
};

const get = async (pair: MeterPair, to: Did, path: string, from: Did) => {
  const response = await pair.network.apps
    .get(to)
    ?.request(`/ext/1/statements/${path}`, { headers: { authorization: from } });
  return { status: response?.status, body: JSON.parse((await response?.text()) ?? '') };
};

const stranger = 'did:web:stranger.example' as Did;
const ndjson = 'application/x-ndjson';

/** A genuine draft, held back on its way. */
const heldBack = async (pair: MeterPair): Promise<Json> => {
  pair.network.fate = ({ path }) => (path === 'draft' ? 'lose' : 'deliver');
  await access(pair, pair.agreement);
  await pair.provider.metering.agreementEnded(us, pair.agreement);
  const message = await eventually(
    async () => pair.network.messages.find(({ path }) => path === 'draft'),
    (found) => found !== undefined,
  );
  return message?.body ?? null;
};

describe('statement routes', () => {
  test('strangers, the other role and unknown agreements get 404, always the same', async () => {
    await using pair = await startMeterPair();
    const draft = await heldBack(pair);
    const request = { agreementDigest: pair.agreement };
    const answers = [
      await post(pair, consumerDid, 'draft', draft, { from: stranger }),
      await post(pair, providerDid, 'draft', draft),
      await post(pair, providerDid, 'request', request, { from: stranger }),
      await post(pair, consumerDid, 'request', request),
      await post(pair, providerDid, 'request', { agreementDigest: digestOf('unknown') }),
      await get(pair, providerDid, `${pair.agreement}/newest`, stranger),
      await get(pair, providerDid, `${pair.agreement}/newest`, consumerDid),
      await get(pair, providerDid, `${pair.agreement}/x`, consumerDid),
      await get(pair, providerDid, `${digestOf('unknown')}/newest`, consumerDid),
    ];
    for (const { status, body } of answers) {
      expect(status).toBe(404);
      expect(body).toEqual(answers[0]?.body);
    }
  });

  test('callers without a token are refused', async () => {
    await using pair = await startMeterPair();
    const answer = await post(pair, providerDid, 'request', {}, { from: 'nobody' as Did });
    expect(answer.status).toBe(401);
  });

  test('a repeated draft and a repeated signed statement get the same answer', async () => {
    await using pair = await startMeterPair();
    const draft = await heldBack(pair);
    const first = await post(pair, consumerDid, 'draft', draft);
    expect(first).toMatchObject({ status: 200, body: { accept: expect.any(String) } });
    expect((await post(pair, consumerDid, 'draft', draft)).body).toEqual(first.body);
    pair.network.fate = () => 'deliver';
    const { artifact } = await complete(pair.provider, pair.agreement, 1);
    const signed = {
      payload: artifact?.payload ?? '',
      signatures: artifact?.signatures.slice(0, 1).map((one) => ({ ...one })) ?? [],
    };
    for (let repeat = 0; repeat < 2; repeat += 1)
      expect(await post(pair, consumerDid, 'signed', signed)).toMatchObject({ status: 200, body: artifact });
    expect((await post(pair, consumerDid, 'draft', draft)).body).toEqual(first.body);
  });

  test('a signature that does not hold, and a statement that was never drafted, are refused', async () => {
    await using pair = await startMeterPair();
    const draft = await heldBack(pair);
    await post(pair, consumerDid, 'draft', draft);
    const { payload } = draft as { payload: Json };
    const { canonicalize } = await import('../../contracts/json.ts');
    const { toBase64Url, utf8 } = await import('../../contracts/bytes.ts');
    const { encodeProtected } = await import('../../contracts/ledger/jws.ts');
    const forged = (value: Json) => ({
      payload: toBase64Url(utf8(canonicalize(value))),
      signatures: [
        {
          protected: encodeProtected(`${providerDid}#s`, 'stekker-usage-statement+jws'),
          signature: toBase64Url(new Uint8Array(64)),
        },
      ],
    });
    expect(await post(pair, consumerDid, 'signed', forged(payload))).toMatchObject({ status: 400 });
    const other = { ...(payload as { [key: string]: Json }), salt: digestOf('other') };
    expect(await post(pair, consumerDid, 'signed', forged(other))).toMatchObject({
      status: 409,
      body: { type: 'urn:stekker:1:error:statement-conflict' },
    });
    expect(await post(pair, consumerDid, 'signed', { payload: '', signatures: [] })).toMatchObject({ status: 400 });
  });

  test('all faults of a draft are told at once, and nothing of it is kept', async () => {
    await using pair = await startMeterPair();
    const draft = (await heldBack(pair)) as { [key: string]: Json };
    const answer = await post(pair, consumerDid, 'draft', { ...draft, K: 'short', records: [{ n: 1 }], more: true });
    expect(answer.status).toBe(400);
    const paths = (answer.body.errors as { path: string }[]).map(({ path }) => path);
    expect(paths).toEqual(expect.arrayContaining(['/K', '/records/0/n', '/records/0/request', '']));
    expect(await post(pair, consumerDid, 'draft', 'no json')).toMatchObject({ status: 400 });
    expect(await post(pair, consumerDid, 'draft', draft, { type: 'text/plain' })).toMatchObject({ status: 415 });
    const huge = JSON.stringify({ ...draft, filler: 'x'.repeat(9 << 20) });
    expect(await post(pair, consumerDid, 'draft', huge)).toMatchObject({ status: 413 });
    expect(
      await pair.consumer.options.drafts.list({ participant: us, role: 'consumer', agreement: pair.agreement }),
    ).toEqual([]);
  });

  test('pages may come in any order and twice; broken ones are refused with all their faults', async () => {
    await using pair = await startMeterPair();
    const draft = (await heldBack(pair)) as { [key: string]: Json };
    const { records, ...frame } = draft as { records: { [key: string]: Json }[]; [key: string]: Json };
    const line = (value: Json) => `${JSON.stringify(value)}\n`;
    const page = (number: number, rows: readonly Json[]) =>
      [{ ...frame, page: number, pages: 2 }, ...rows].map((value) => line(value as Json)).join('');
    const send = (text: string) => post(pair, consumerDid, 'draft', text, { type: ndjson });
    const second = { ...records[0], n: '2' };
    expect(await send(page(2, [second]))).toMatchObject({ status: 202, body: { received: [2] } });
    expect(await send(page(2, [second]))).toMatchObject({ status: 202, body: { received: [2] } });
    const whole = await send(page(1, records));
    expect(whole.status).toBe(200); // whole, and refused: it has a record twice
    expect(whole.body.payload).toEqual(expect.any(String));
    expect(await send(page(3, records))).toMatchObject({ status: 400, body: { errors: [{ path: '/0/page' }] } });
    expect(await send(`${line({ page: 1 })}${line({ n: 'x' })}`)).toMatchObject({ status: 400 });
    expect(await send(`${page(1, [])}{`)).toMatchObject({ status: 400, body: { errors: [{ path: '/1' }] } });
    expect(
      await send(
        page(
          1,
          Array.from({ length: maxPageRecords + 1 }, () => second),
        ),
      ),
    ).toMatchObject({ status: 400 });
    expect(await send('')).toMatchObject({ status: 400 });
  });

  test('a party gets the newest statement, and any other by its number, with its rows, S and K', async () => {
    await using pair = await startMeterPair({ changes: { intervalMs: 20 } });
    await access(pair, pair.agreement);
    const first = await complete(pair.provider, pair.agreement, 1);
    await complete(pair.consumer, pair.agreement, 1);
    await endBoth(pair);
    const last = await complete(pair.provider, pair.agreement, 2);
    for (const [to, from] of [
      [providerDid, consumerDid],
      [consumerDid, providerDid],
    ] as const) {
      const newest = await get(pair, to, `${pair.agreement}/newest`, from);
      expect(newest).toMatchObject({ status: 200, body: { artifact: last.artifact, sums: last.sums, records: [] } });
      const one = await get(pair, to, `${pair.agreement}/1`, from);
      expect(one.body).toMatchObject({ artifact: first.artifact, K: first.K, records: [{ n: '1', bytes: '3' }] });
      expect(Object.keys(one.body.records[0])).not.toContain('facts');
      expect(JSON.stringify(one.body)).not.toContain('"d":');
      expect((await get(pair, to, `${pair.agreement}/3`, from)).status).toBe(404);
    }
  });
});
