import { describe, expect, test } from 'vitest';
import { signJwt } from '../../kernel/jwt.ts';
import { createLogger } from '../../kernel/log.ts';
import {
  accreditedFacts,
  agreementDigest,
  application,
  makeMaker,
  providerPid,
  purpose,
  sendRaw,
  startWorld,
  type Token,
  until,
  type World,
} from '../../test/support/data-world.ts';

const path = `/${providerPid}/rain`;
const codeOf = ({ body }: { readonly body: Buffer }): string =>
  JSON.parse(body.toString()).type.replace('urn:stekker:1:error:', '');
const claimsOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());

describe('an access with everything it needs', () => {
  test('is served, recorded before and closed after, and tells its id and what is left', async () => {
    await using world = await startWorld();
    const token = await world.getToken({ run: 'run-7' });
    const jti = world.newId();
    const answer = await world.access(token, { claims: { jti }, headers: ['fsc-transaction-id', jti] });
    expect([answer.status, answer.body.toString(), answer.headers['x-source']]).toEqual([200, '{"mm":3}', 'yes']);
    expect(answer.headers['fsc-transaction-id']).toBe(jti);
    expect(answer.headers.ratelimit).toMatch(/^"requests";r=\d+, "bytes";r=\d+$/);
    await until(() => world.meter().closed().length === 1);
    expect(world.meter().entries).toMatchObject([
      {
        t: 'open',
        agreement: agreementDigest,
        request: jti,
        part: 1,
        asset: 'urn:asset:rain',
        transfer: providerPid,
        application,
        method: 'GET',
        purpose,
        run: 'run-7',
        target: claimsOf(world.meter().opened()[0]?.proof ?? '').tgt,
        ext: null,
        reserved: 1_048_576,
      },
      { t: 'close', request: jti, bytes: 8, outcome: 'ok', status: '200', units: { requests: '1', bytes: '8' } },
    ]);
  });

  test('its first byte waits for the journal', async () => {
    await using world = await startWorld();
    const token = await world.getToken();
    const release = world.meter().hold();
    let isAnswered = false;
    const pending = world.access(token).then((answer) => {
      isAnswered = true;
      return answer;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(isAnswered).toBe(false);
    release();
    expect((await pending).status).toBe(200);
  });

  test('keeps its token through a restart of the data plane', async () => {
    await using world = await startWorld();
    const token = await world.getToken();
    await world.access(token);
    await world.restart();
    expect((await world.access(token)).status).toBe(200);
    expect(world.meter().count(agreementDigest)).toBe(2);
  });
});

/** What must be refused, how, and without a record. */
const matrix: readonly (readonly [
  name: string,
  attempt: (world: World, token: Token) => Promise<{ readonly status: number; readonly body: Buffer }>,
  status: number,
  code: string,
])[] = [
  ['no token', (world) => sendRaw({ port: world.dataPort, path, headers: [] }), 401, 'token-invalid'],
  [
    'a token of a stranger',
    async (world, token) => {
      const forged = signJwt(world.consumer.keys.accessToken, 'at+jwt', claimsOf(token.text));
      return world.access({ ...token, text: forged });
    },
    401,
    'token-invalid',
  ],
  [
    'a token for another audience',
    async (world, token) => {
      const claims = { ...claimsOf(token.text), aud: 'https://data.other.example' };
      return world.access({ ...token, text: signJwt(world.provider.keys.accessToken, 'at+jwt', claims) });
    },
    401,
    'token-invalid',
  ],
  [
    'a token of another type',
    async (world, token) =>
      world.access({ ...token, text: signJwt(world.provider.keys.accessToken, 'JWT', claimsOf(token.text)) }),
    401,
    'token-invalid',
  ],
  [
    'a token that was never given',
    async (world, token) => {
      const claims = { ...claimsOf(token.text), jti: 'never' };
      return world.access({ ...token, text: signJwt(world.provider.keys.accessToken, 'at+jwt', claims) });
    },
    401,
    'token-invalid',
  ],
  [
    'an expired token',
    async (world, token) => {
      world.move(301_000);
      return world.access(token);
    },
    401,
    'token-invalid',
  ],
  [
    'an expired token that was used before',
    async (world, token) => {
      await world.access(token);
      world.move(301_000);
      return world.access(token);
    },
    401,
    'token-invalid',
  ],
  [
    'a bound token as a bearer token',
    (world, token) => sendRaw({ port: world.dataPort, path, headers: ['authorization', `Bearer ${token.text}`] }),
    401,
    'token-invalid',
  ],
  [
    'a grant as a bearer token',
    (world) => sendRaw({ port: world.dataPort, path, headers: ['authorization', `Bearer ${world.grant()}`] }),
    401,
    'token-invalid',
  ],
  [
    'the path of another transfer',
    (world, token) => world.access(token, { path: '/urn:uuid:01a20806-e7c0-7000-8000-000000000034/rain' }),
    401,
    'token-invalid',
  ],
  [
    'no proof',
    (world, token) => sendRaw({ port: world.dataPort, path, headers: ['authorization', `DPoP ${token.text}`] }),
    401,
    'proof-invalid',
  ],
  ['a proof of another key', (world, token) => world.access({ ...token, maker: makeMaker() }), 401, 'proof-invalid'],
  [
    'a proof of another key under the header of the right one',
    async (world, token) => {
      await world.access(token);
      const [header] = token.maker.make(world.claimsFor(path, token.text)).split('.');
      const [, body, end] = makeMaker().make(world.claimsFor(path, token.text)).split('.');
      return world.access(token, { proof: `${header}.${body}.${end}` });
    },
    401,
    'proof-invalid',
  ],
  [
    'a proof for another method',
    (world, token) => world.access(token, { claims: { htm: 'HEAD' } }),
    401,
    'proof-invalid',
  ],
  [
    'a proof for another address',
    (world, token) => world.access(token, { claims: { htu: `${world.dataOrigin}/${providerPid}/other` } }),
    401,
    'proof-invalid',
  ],
  [
    'a proof for another host',
    (world, token) => world.access(token, { claims: { htu: `https://data.other.example${path}` } }),
    401,
    'proof-invalid',
  ],
  [
    'a proof for another token',
    (world, token) => world.access(token, { claims: { ath: 'A'.repeat(43) } }),
    401,
    'proof-invalid',
  ],
  [
    'a proof for another query',
    (world, token) =>
      world.access(token, { path: `${path}?all`, claims: { tgt: world.claimsFor(path, token.text).tgt ?? '' } }),
    401,
    'proof-invalid',
  ],
  [
    'a proof for another range',
    (world, token) =>
      world.access(token, { range: 'bytes=0-9', claims: { tgt: world.claimsFor(path, token.text).tgt ?? '' } }),
    401,
    'proof-invalid',
  ],
  [
    'a proof without a target',
    (world, token) => {
      const { tgt: _tgt, ...claims } = world.claimsFor(path, token.text);
      return world.access(token, { proof: token.maker.make(claims) });
    },
    401,
    'proof-invalid',
  ],
  [
    'an old proof',
    (world, token) => world.access(token, { claims: { iat: Math.floor(world.clock.now() / 1_000) - 62 } }),
    401,
    'proof-invalid',
  ],
  [
    'a proof of the future',
    (world, token) => world.access(token, { claims: { iat: Math.floor(world.clock.now() / 1_000) + 62 } }),
    401,
    'proof-invalid',
  ],
  [
    'a request id that is no UUIDv7',
    (world, token) => world.access(token, { claims: { jti: 'x' } }),
    401,
    'proof-invalid',
  ],
  [
    'a request id of another time',
    (world, token) => world.access(token, { claims: { jti: '01a20810-0f6c-7000-8000-000000000001' } }),
    401,
    'proof-invalid',
  ],
  [
    'another id in Fsc-Transaction-Id',
    (world, token) => world.access(token, { headers: ['fsc-transaction-id', world.newId()] }),
    401,
    'proof-invalid',
  ],
  [
    'the token twice',
    (world, token) => world.access(token, { headers: ['authorization', `DPoP ${token.text}`] }),
    401,
    'token-invalid',
  ],
  [
    'the proof twice',
    (world, token) => world.access(token, { headers: ['DPoP', token.maker.make(world.claimsFor(path, token.text))] }),
    401,
    'proof-invalid',
  ],
  [
    'the range twice',
    (world, token) => world.access(token, { range: 'bytes=0-1', headers: ['Range', 'bytes=0-1'] }),
    400,
    'request-invalid',
  ],
  ['another method', (world, token) => world.access(token, { method: 'POST' }), 405, 'method-not-allowed'],
  [
    'a path that leads out',
    (world, token) => world.access(token, { path: `/${providerPid}/%2e%2e/x` }),
    400,
    'request-invalid',
  ],
  [
    'a closed transfer',
    async (world, token) => {
      await world.access(token);
      await world.closeTransfer();
      return world.access(token);
    },
    401,
    'token-invalid',
  ],
  [
    'a transfer that was opened anew',
    async (world, token) => {
      await world.access(token);
      await world.reopen();
      return world.access(token);
    },
    401,
    'token-invalid',
  ],
  [
    'an ended agreement',
    async (world, token) => {
      await world.access(token);
      expect(await world.endAgreement()).toBe(1);
      return world.access(token);
    },
    401,
    'token-invalid',
  ],
  [
    'an agreement that ended while nothing ran',
    async (world, token) => {
      world.markEnded();
      await world.restart();
      return world.access(token);
    },
    401,
    'token-invalid',
  ],
  [
    'a revoked credential',
    async (world, token) => {
      world.revoke('urn:credential:membership');
      return world.access(token);
    },
    403,
    'revoked',
  ],
  [
    'a revoked participant',
    async (world, token) => {
      world.revoke(world.consumer.keys.did);
      return world.access(token);
    },
    403,
    'revoked',
  ],
];

describe('an access that lacks something', () => {
  test.each(matrix)('is refused without a record: %s', async (_name, attempt, status, code) => {
    await using world = await startWorld();
    const token = await world.getToken();
    const answer = await attempt(world, token);
    expect([answer.status, codeOf(answer)]).toEqual([status, code]);
    await until(() => world.meter().closed().length === world.meter().opened().length);
    // What is recorded are the accesses that some attempts begin with, and those were served.
    expect(
      world
        .meter()
        .closed()
        .filter((entry) => entry.status !== '200'),
    ).toEqual([]);
  });

  test('a proof counts once, also after a restart', async () => {
    await using world = await startWorld();
    const token = await world.getToken();
    const proof = token.maker.make(world.claimsFor(path, token.text));
    expect((await world.access(token, { proof })).status).toBe(200);
    const again = await world.access(token, { proof });
    expect([again.status, codeOf(again)]).toEqual([409, 'request-repeated']);
    await world.restart();
    const later = await world.access(token, { proof });
    expect([later.status, codeOf(later)]).toEqual([409, 'request-repeated']);
    expect(world.meter().opened()).toHaveLength(1);
  });

  test('a proof whose access the policy refused is used up as well', async () => {
    const constraint = [{ leftOperand: 'odrl:count', operator: 'lteq', rightOperand: '0' }];
    await using world = await startWorld({ terms: { rules: { permission: [{ action: 'use', constraint }] } } });
    const token = await world.getToken();
    const proof = token.maker.make(world.claimsFor(path, token.text));
    expect((await world.access(token, { proof })).status).toBe(403);
    expect((await world.access(token, { proof })).status).toBe(409);
  });

  test('of the same proof sent by many at once, one is served', async () => {
    await using world = await startWorld();
    const token = await world.getToken();
    const proof = token.maker.make(world.claimsFor(path, token.text));
    const answers = await Promise.all(Array.from({ length: 8 }, () => world.access(token, { proof })));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, ...Array(7).fill(409)]);
  });

  test('the same request id in another proof counts once as well', async () => {
    await using world = await startWorld();
    const token = await world.getToken();
    const jti = world.newId();
    const iat = Math.floor(world.clock.now() / 1_000);
    expect((await world.access(token, { claims: { jti, iat } })).status).toBe(200);
    expect((await world.access(token, { claims: { jti, iat: iat - 30 } })).status).toBe(409);
    const other = await world.getToken();
    expect((await world.access(other, { claims: { jti, iat } })).status).toBe(409);
  });

  test('a full replay set refuses, it does not forget', async () => {
    await using world = await startWorld({ replayCapacity: 16 });
    const token = await world.getToken();
    expect((await world.access(token)).status).toBe(200);
    expect((await world.access(token)).status).toBe(200);
    const answer = await world.access(token);
    expect([answer.status, codeOf(answer)]).toEqual([503, 'replay-store-unavailable']);
  });

  test('a policy is asked at each access, with the count, and says why in both languages', async () => {
    const rules = {
      permission: [{ action: 'use', constraint: [{ leftOperand: 'odrl:count', operator: 'lteq', rightOperand: '2' }] }],
    };
    await using world = await startWorld({ terms: { rules } });
    const token = await world.getToken();
    const answers = await Promise.all([1, 2, 3, 4].map(() => world.access(token)));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 200, 403, 403]);
    const refused = answers.find(({ status }) => status === 403);
    const problem = JSON.parse(refused?.body.toString() ?? '{}');
    expect(problem.type).toBe('urn:stekker:1:error:policy-denied');
    expect(problem.reasons[0]).toEqual({
      nl: expect.stringContaining('aantal keren'),
      en: expect.stringContaining('number of times'),
    });
    expect(world.meter().opened()).toHaveLength(2);
  });

  test('a time limit of the policy holds from one access to the next', async () => {
    await using world = await startWorld({
      terms: {
        rules: {
          permission: [
            {
              action: 'use',
              constraint: [
                {
                  leftOperand: 'odrl:dateTime',
                  operator: 'lt',
                  rightOperand: new Date(Date.now() + 60_000).toISOString(),
                },
              ],
            },
          ],
        },
      },
    });
    const token = await world.getToken();
    expect((await world.access(token)).status).toBe(200);
    world.move(61_000);
    expect((await world.access(token)).status).toBe(403);
  });

  test('what was proven for the token still counts at the access, for that token alone', async () => {
    const rules = {
      permission: [
        {
          action: 'use',
          constraint: [{ leftOperand: 'urn:stekker:1:accreditedFor', operator: 'eq', rightOperand: purpose }],
        },
      ],
    };
    await using world = await startWorld({ terms: { rules } });
    const token = await world.getToken();
    world.setFacts(accreditedFacts({ purposes: ['urn:other'] }));
    expect((await world.access(token)).status).toBe(200);
    await world.restart();
    expect((await world.access(token)).status).toBe(200);
  });

  test('a price without its plan is 402', async () => {
    await using world = await startWorld({ terms: { price: '8pldMWzXGFWWymna5r3o-n_BVGKMjeIQCXoAWy0XKA8' } });
    const answer = await world.access(await world.getToken());
    expect([answer.status, codeOf(answer)]).toEqual([402, 'price-needed']);
  });

  test('beyond the window it is 429, and the source gives nothing', async () => {
    await using world = await startWorld({ provider: { requests: 1 } });
    const token = await world.getToken();
    expect((await world.access(token)).status).toBe(200);
    const answer = await world.access(token);
    expect([answer.status, codeOf(answer), answer.headers['retry-after']]).toEqual([429, 'window-exhausted', '1']);
    expect(world.meter().opened()).toHaveLength(1);
  });

  test('a journal that fails means 503 and no data', async () => {
    let asked = 0;
    await using world = await startWorld({
      source: (_request, response) => {
        asked += 1;
        response.end('MARKER');
      },
    });
    const token = await world.getToken();
    world.meter().fail(true);
    const answer = await world.access(token);
    expect([answer.status, codeOf(answer)]).toEqual([503, 'journal-unavailable']);
    expect(answer.body.toString()).not.toContain('MARKER');
    expect(asked).toBe(0);
  });

  test('a journal that fails in the moment of opening lets nothing out either', async () => {
    await using world = await startWorld();
    const token = await world.getToken();
    const meter = world.meter();
    const isReady = meter.isReady;
    meter.fail(true);
    Object.assign(meter, { isReady: () => true });
    const answer = await world.access(token);
    Object.assign(meter, { isReady });
    expect([answer.status, codeOf(answer)]).toEqual([503, 'journal-unavailable']);
  });
});

describe('a silent broker', () => {
  test('strict: after three seconds nothing is served', async () => {
    await using world = await startWorld({ terms: { silence: 'strict' } });
    const token = await world.getToken();
    world.silence(2_900);
    expect((await world.access(token)).status).toBe(200);
    world.silence(3_100);
    const answer = await world.access(token);
    expect([answer.status, codeOf(answer), answer.headers['retry-after']]).toEqual([503, 'status-unknown', '5']);
  });

  test('grace: goes on, marks each record with the age, and stops at its end', async () => {
    await using world = await startWorld({ terms: { silence: 20_000 } });
    const token = await world.getToken();
    world.silence(12_000);
    expect((await world.access(token)).status).toBe(200);
    expect(world.meter().opened()[0]?.ext).toEqual({ statusAge: '12' });
    world.silence(20_001);
    expect((await world.access(token)).status).toBe(503);
  });
});

describe('limits', () => {
  test('headers that are too large are refused by the server', async () => {
    await using world = await startWorld();
    const token = await world.getToken();
    const answer = await world.access(token, { headers: ['x-large', 'x'.repeat(40_000)] });
    expect(answer.status).toBe(431);
  });

  test('a body with a GET is not read', async () => {
    await using world = await startWorld();
    const token = await world.getToken();
    const claims = world.claimsFor(path, token.text);
    const headers = ['authorization', `DPoP ${token.text}`, 'dpop', token.maker.make(claims), 'content-length', '4'];
    const answer = await sendRaw({ port: world.dataPort, path, headers, body: 'abcd' });
    expect([answer.status, codeOf(answer)]).toEqual([400, 'request-invalid']);
  });

  test('a refusal makes a line in the log, with its reason and without a secret', async () => {
    const lines: string[] = [];
    const log = createLogger({ name: 'test', level: 'debug', destination: { write: (line) => void lines.push(line) } });
    await using world = await startWorld({ log });
    const token = await world.getToken();
    const answers = [
      await world.access(token, { claims: { htm: 'PUT' } }),
      await world.access({ ...token, text: `${token.text.slice(0, -4)}AAAA` }),
      await world.askToken({ form: { grant: `${world.grant().slice(0, -4)}AAAA` } }).then(({ answer }) => answer),
      await world.fetchData('/rain', { key: `${world.key.slice(0, -4)}AAAA` }),
      await world.fetchData('/rain'),
    ];
    expect(answers.map(({ status }) => status)).toEqual([401, 401, 400, 401, 200]);
    expect(lines.filter((line) => line.includes('refused'))).toHaveLength(4);
    expect(lines.join()).toContain('htm is another method');
    const said = lines.join() + answers.map(({ body }) => body.toString()).join();
    for (const secret of [token.text.slice(20, 60), world.grant().slice(0, 30), world.key.slice(4, 30)])
      expect(said).not.toContain(secret);
  });
});
