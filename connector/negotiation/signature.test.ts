import type { Kysely } from 'kysely';
import { expect, test } from 'vitest';
import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import { systemRandom, uuidV7 } from '../../kernel/random.ts';
import { sqlUsedTokens } from '../../kernel/sql/used-tokens.ts';
import { idOf, inForce, pair } from '../../test/support/agreement-pair.ts';
import type { ProcessTables } from '../adapters/sql/process-store.ts';
import type { Authenticate } from '../exchange/http.ts';

/** Callers whose token is named by the id of their message, and counts once. */
const byToken =
  (db: Kysely<ProcessTables>): Authenticate =>
  async (_participant, headers, purpose) => {
    const did = headers.get('authorization') as Did;
    const token = { issuer: did, jti: headers.get('idempotency-key') ?? uuidV7(0, systemRandom), expiresAt: 8e15 };
    const claim = () => sqlUsedTokens(db).claim(token);
    if (purpose === 'message') return { did, token, claim };
    if (!(await claim())) throw new AppError('unauthenticated');
    return { did };
  };

test('a token that brought a signature counts once, whether the signature was new or not', async () => {
  await using world = await pair({ authenticate: byToken });
  const { provider, consumer } = world;
  const agreed = await world.negotiate(inForce);
  const bring = async (token: string) => {
    const url = `${new URL(provider.base).origin}/ext/1/agreements/${encodeURIComponent(idOf(agreed))}/signature`;
    const answer = await provider.app.fetch(
      new Request(url, {
        method: 'POST',
        body: JSON.stringify({ artifact: agreed.data.agreement?.artifact }),
        headers: { 'content-type': 'application/json', authorization: consumer.did, 'idempotency-key': token },
      }),
    );
    return { status: answer.status, body: JSON.parse(await answer.text()) };
  };
  const agreementDigest = agreed.data.agreement?.digest;
  expect(await bring('a fresh one')).toEqual({ status: 200, body: { agreementDigest } });
  expect((await bring('a fresh one')).status).toBe(401);
  expect((await bring(`${agreed.pid} signature`)).status).toBe(401);
  expect((await bring('another')).status).toBe(200);
});
