import { describe, expect, test } from 'vitest';
import {
  accreditedFacts,
  agreementDigest,
  application,
  makeMaker,
  providerPid,
  purpose,
  startWorld,
  tenant,
} from '../../test/support/data-world.ts';

const claimsOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());

const asks = (leftOperand: string, rightOperand: string) => ({
  permission: [{ action: 'use', constraint: [{ leftOperand, operator: 'eq', rightOperand }] }],
});

describe('token endpoint', () => {
  test('gives a token of five minutes with exactly the claims of the wire', async () => {
    await using world = await startWorld();
    const maker = makeMaker();
    const { status, body, answer } = await world.askToken({ maker, form: { run: 'run-7' } });
    expect(status).toBe(200);
    expect(body).toEqual({ access_token: expect.any(String), token_type: 'DPoP', expires_in: 300 });
    expect(answer.headers['cache-control']).toBe('no-store');
    const iat = Math.floor(world.clock.now() / 1_000);
    const claims = claimsOf(body.access_token);
    expect(claims).toEqual({
      iss: world.provider.keys.did,
      sub: world.consumer.keys.did,
      aud: world.dataOrigin,
      exp: claims.iat + 300,
      iat: expect.closeTo(iat, -1),
      jti: expect.any(String),
      client_id: application,
      purpose,
      transfer: providerPid,
      agreement: agreementDigest,
      asset: 'urn:asset:rain',
      policy: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      cnf: { jkt: maker.jkt },
    });
  });

  test('keeps the word of the consumer that its key speaks for it', async () => {
    await using world = await startWorld();
    const { maker, body } = await world.askToken({ form: { run: 'run-7' } });
    const { jti } = claimsOf(body.access_token);
    const row = await world.db.selectFrom('access_token').selectAll().executeTakeFirstOrThrow();
    expect(row).toMatchObject({ participant: tenant, jti, jkt: maker.jkt, run: 'run-7', transfer: providerPid });
    expect(claimsOf(row.si_token)).toMatchObject({ iss: world.consumer.keys.did, cnf: { jkt: maker.jkt } });
    const grants = await world.db.selectFrom('data_grant').selectAll().execute();
    expect(JSON.stringify([row, grants])).not.toContain(world.grant());
  });

  test('a token does not outlive a credential behind it', async () => {
    await using world = await startWorld();
    world.setFacts({ ...accreditedFacts(), validUntil: world.clock.now() + 60_000 });
    const { body } = await world.askToken();
    expect(body.expires_in).toBeLessThanOrEqual(60);
    world.setFacts({ ...accreditedFacts(), validUntil: world.clock.now() - 1 });
    expect(await world.askToken()).toMatchObject({ status: 403, body: { error: 'policy_denied' } });
  });

  test('all faults of a form are told at once', async () => {
    await using world = await startWorld();
    const { status, body } = await world.askToken({
      form: { grant: 'not a grant', client_id: 'no version', purpose: 'no iri', run: 'x\u0000' },
    });
    expect([status, body.error]).toEqual([400, 'invalid_request']);
    for (const name of ['grant', 'client_id', 'purpose', 'run']) expect(body.error_description).toContain(name);
  });

  test.each([
    ['another grant type', { form: { grant_type: 'client_credentials' } }, 400, 'unsupported_grant_type'],
    ['no grant type', { raw: 'grant=abc' }, 400, 'invalid_request'],
    ['another media type', { headers: { 'content-type': 'application/json' } }, 400, 'invalid_request'],
    ['a field twice', { raw: 'grant_type=urn:stekker:1:transfer&grant=a&grant=b' }, 400, 'invalid_request'],
    ['a form that is too large', { raw: `grant=${'x'.repeat(20_000)}` }, 413, 'body_too_large'],
    ['no proof', { headers: { dpop: '' } }, 400, 'invalid_dpop_proof'],
    ['a proof that is none', { headers: { dpop: 'a.b.c' } }, 400, 'invalid_dpop_proof'],
    ['a proof for another method', { proof: { htm: 'GET' } }, 400, 'invalid_dpop_proof'],
    [
      'a proof for another address',
      { proof: { htu: 'https://other.example/ext/1/tokens' } },
      400,
      'invalid_dpop_proof',
    ],
    ['an old proof', { proof: { iat: 1_700_000_000 } }, 400, 'invalid_dpop_proof'],
    ['no SI token', { headers: { authorization: '' } }, 401, 'invalid_client'],
    ['an SI token for another key', { jkt: 'A'.repeat(43) }, 401, 'invalid_client'],
    ['a grant that was never given', { form: { grant: 'A'.repeat(43) } }, 400, 'invalid_grant'],
  ] as const)('%s is refused', async (_name, changes, status, error) => {
    await using world = await startWorld();
    const refused = await world.askToken(changes);
    expect([refused.status, refused.body.error]).toEqual([status, error]);
    expect(await world.db.selectFrom('access_token').selectAll().execute()).toEqual([]);
  });

  test('a proof and an SI token count once', async () => {
    await using world = await startWorld();
    const maker = makeMaker();
    const proof = { jti: 'once' };
    expect((await world.askToken({ maker, proof })).status).toBe(200);
    expect(await world.askToken({ maker, proof })).toMatchObject({
      status: 400,
      body: { error: 'invalid_dpop_proof' },
    });
    const authorization = world.tokenService.tokenFor({
      audience: world.provider.keys.did,
      jkt: maker.jkt,
      scopes: [],
    });
    expect((await world.askToken({ maker, headers: { authorization } })).status).toBe(200);
    expect(await world.askToken({ maker, headers: { authorization } })).toMatchObject({
      status: 401,
      body: { error: 'invalid_client' },
    });
  });

  test('a proof used by two at once counts once', async () => {
    await using world = await startWorld();
    const maker = makeMaker();
    const both = await Promise.all([1, 2, 3].map(() => world.askToken({ maker, proof: { jti: 'race' } })));
    expect(both.map(({ status }) => status).toSorted()).toEqual([200, 400, 400]);
  });

  test('an accreditation is asked for when the policy needs one, and must be of exactly this version', async () => {
    await using world = await startWorld({ terms: { rules: asks('urn:stekker:1:accreditedFor', purpose) } });
    expect((await world.askToken()).status).toBe(200);
    expect(world.asked.at(-1)).toEqual(['MembershipCredential', 'ApplicationAccreditationCredential']);
    world.setFacts(accreditedFacts({ version: '2.0.0' }));
    const other = await world.askToken();
    expect([other.status, other.body.error]).toEqual([403, 'policy_denied']);
    world.setFacts(accreditedFacts({ purposes: ['urn:other'] }));
    expect((await world.askToken()).status).toBe(403);
    expect((await world.askToken({ form: { client_id: 'urn:stekker:1:app:evacuatie@2.0.0' } })).status).toBe(403);
  });

  test('a refusal of the policy says why, in both languages', async () => {
    await using world = await startWorld({ terms: { rules: asks('odrl:purpose', purpose) } });
    expect(world.asked).toEqual([]);
    const { status, body } = await world.askToken({ form: { purpose: 'urn:stekker:1:purpose:marketing' } });
    expect([status, body.error]).toEqual([403, 'policy_denied']);
    expect(body.reasons[0].nl).toContain('het doel');
    expect(body.reasons[0].en).toContain('the purpose');
    expect(world.asked.at(-1)).toEqual(['MembershipCredential']);
  });

  test('without the credentials there is no token', async () => {
    await using world = await startWorld({ facts: 'none' });
    expect(await world.askToken()).toMatchObject({ status: 401, body: { error: 'invalid_client' } });
  });

  test('what was revoked, or nobody can know of, gets no token', async () => {
    await using world = await startWorld({ terms: { silence: 'strict' } });
    world.silence(4_000);
    const silent = await world.askToken();
    expect([silent.status, silent.body.error]).toEqual([503, 'status_unknown']);
    world.silence(0);
    world.revoke('urn:credential:accreditation');
    expect(await world.askToken()).toMatchObject({ status: 403, body: { error: 'revoked' } });
  });

  test('a grant is void when the transfer was opened again, closed, or the agreement has ended', async () => {
    await using world = await startWorld();
    const grant = world.grant();
    await world.reopen();
    expect(await world.askToken({ form: { grant } })).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
    expect((await world.askToken()).status).toBe(200);
    world.markEnded();
    expect(await world.askToken()).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
    await world.closeTransfer();
    expect(await world.askToken()).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
  });

  test('a consumer gets no more than its share of tokens', async () => {
    await using world = await startWorld({ tokens: 60 });
    const begun = world.clock.now();
    const answers: Awaited<ReturnType<typeof world.askToken>>[] = [];
    for (let round = 0; round < 5; round += 1)
      answers.push(...(await Promise.all(Array.from({ length: 20 }, () => world.askToken()))));
    const comeBack = Math.ceil((world.clock.now() - begun) / 1_000);
    const given = answers.filter(({ status }) => status === 200).length;
    expect(given).toBeGreaterThanOrEqual(60);
    expect(given).toBeLessThanOrEqual(60 + comeBack);
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused.length).toBe(100 - given);
    for (const { body, answer } of refused) {
      expect(body.error).toBe('too_many_requests');
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
    }
    world.move(5_000);
    expect((await world.askToken()).status).toBe(200);
  });
});
