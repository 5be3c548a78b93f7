import { describe, expect, test } from 'vitest';
import { toBase64Url, toHex, utf8 } from '../../contracts/bytes.ts';
import { frameOf, packedReceiptsOf, type ReceiptFrame, receiptOf } from '../../contracts/ledger/assemble.ts';
import { buildEntry, entryText } from '../../contracts/ledger/entry.ts';
import {
  type Followed,
  type FollowTools,
  fetchEntries,
  followLog,
  keyEntriesOf,
  proveEntry,
} from '../../contracts/ledger/follow.ts';
import { readPolicy } from '../../contracts/ledger/note.ts';
import { receiptText, trustText } from '../../contracts/ledger/receipt.ts';
import { recordLeaf } from '../../contracts/ledger/record.ts';
import { bundlePath, encodeBundle } from '../../contracts/ledger/tiles.ts';
import { rootOf } from '../../contracts/ledger/tree.ts';
import { verifyReceipt } from '../../contracts/ledger/verify.ts';
import { formatTime } from '../../contracts/time.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { silentLogger } from '../../kernel/log.ts';
import { signDer } from '../../test/support/keys.ts';
import { keys, origin } from '../../test/support/ledger-world.ts';
import { joinAll, type LogBench, logBench, logKeys, published } from '../../test/support/log-bench.ts';
import {
  accessOf,
  agreementBody,
  consumer,
  logStart,
  provider,
  statementBody,
  stranger,
} from '../../test/support/log-parties.ts';
import { createLedgerRoutes, logPathOf } from './routes.ts';
import type { Ledger } from './service.ts';

const policyText = `log ${logKeys.vkey}\nquorum none\n`;

const accesses = [1, 2, 3].map((n) => accessOf(n));
const records = accesses.map(({ record }) => record);

interface World {
  readonly bench: LogBench;
  readonly ledger: Ledger;
  readonly tools: FollowTools;
}

/** A log served over its routes, with a statement over three accesses; a stranger joins after it. */
const world = async (): Promise<
  World & { statement: { artifact: never; index: number }; agreement: { artifact: never; index: number }; sums: never }
> => {
  const bench = logBench();
  const ledger = await bench.start();
  await joinAll(ledger);
  const agreement = agreementBody();
  const made = await ledger.register(agreement.body, provider.did);
  const root = toBase64Url(
    rootOf(
      nodeCrypto,
      records.map((record) => recordLeaf(nodeCrypto, record)),
    ),
  );
  const sums = { totals: { requests: '3' } };
  const statement = statementBody({ agreement, sums, changes: { root, last: '3' } });
  const signed = await ledger.register(statement.body, consumer.did);
  await joinAll(ledger, [stranger]);
  await published(bench, 6);
  const app = createLedgerRoutes({ ledger, authenticate: async () => '', log: silentLogger });
  const policy = readPolicy(nodeCrypto, policyText);
  if (!policy.ok) throw new Error(policy.reason);
  const tools: FollowTools = {
    crypto: nodeCrypto,
    policy: policy.value,
    registryKey: logKeys.registryKey,
    fetch: async (path) => {
      const response = await app.request(`${logPathOf(origin)}/${path}`);
      return response.ok ? new Uint8Array(await response.arrayBuffer()) : undefined;
    },
  };
  return {
    bench,
    ledger,
    tools,
    statement: { artifact: statement.body.artifact as never, index: signed.index },
    agreement: { artifact: agreement.body.artifact as never, index: made.index },
    sums: statement.body.sums as never,
  };
};

const unwrap = <Value>(checked: { ok: true; value: Value } | { ok: false; reason: string }): Value => {
  if (!checked.ok) throw new Error(checked.reason);
  return checked.value;
};

const trust = {
  v: 1 as const,
  type: 'trust' as const,
  chains: [],
  logs: [{ vkey: logKeys.vkey, registryKey: Buffer.from(logKeys.registryKey).toString('base64'), policy: policyText }],
};
const verifyTools = {
  crypto: nodeCrypto,
  verifyAnchor: () => ({ state: 'failed' as const, reason: 'no anchor was expected' }),
};

describe('following a log', () => {
  test('finds every public entry, proves the rest, and receipts made of it verify', async () => {
    const { ledger, tools, statement, agreement, sums } = await world();
    const followed = unwrap(await followLog(tools, undefined));
    expect(followed.checkpoint.size).toBe(6);
    expect(followed.publics.map(({ index, artifact }) => [index, artifact.kind])).toEqual([
      [0, 'genesis'],
      [1, 'key-event'],
      [2, 'key-event'],
      [5, 'key-event'],
    ]);
    expect(keyEntriesOf(nodeCrypto, followed, [provider.did, consumer.did]).map(({ index }) => index)).toEqual([1, 2]);
    const frame = unwrap(await frameOf(tools, followed, { statement, agreement, sums, anchors: [] }));
    const one = unwrap(receiptOf(nodeCrypto, frame, accesses[1] ?? accessOf(2), records));
    const verdict = verifyReceipt(verifyTools, trust, receiptText(one));
    expect(verdict.steps.filter(({ state }) => state === 'failed')).toEqual([]);
    expect(verdict.code).toBe(0);
    const all = unwrap(packedReceiptsOf(nodeCrypto, frame, accesses, records));
    expect(verifyReceipt(verifyTools, trust, receiptText(all)).code).toBe(0);
    const closed = accesses.map(({ record }) => ({ record, context: null }));
    const withheld = unwrap(packedReceiptsOf(nodeCrypto, { ...frame, sums: null }, closed, records));
    expect(verifyReceipt(verifyTools, trust, receiptText(withheld)).code).toBe(4);
    expect(trustText(trust)).toContain('"type":"trust"');
    await ledger.close();
  });

  test('goes on from the last visit, and reads nothing twice', async () => {
    const { bench, ledger, tools } = await world();
    const first = unwrap(await followLog(tools, undefined));
    const asked: string[] = [];
    const listening = {
      ...tools,
      fetch: (path: string) => {
        asked.push(path);
        return tools.fetch(path);
      },
    };
    expect(unwrap(await followLog(listening, first))).toEqual(first);
    expect(asked).toEqual(['checkpoint']);
    await ledger.register(agreementBody({ name: 'two' }).body, provider.did);
    await published(bench, 7);
    const second = unwrap(await followLog(listening, first));
    expect([second.checkpoint.size, second.publics.length]).toEqual([7, 4]);
    expect(asked).toEqual(['checkpoint', 'checkpoint', 'tile/entries/000.p/7']);
    await ledger.close();
  });

  test('key events that took effect later come with what made them effective', async () => {
    const { ledger, tools } = await world();
    const followed = unwrap(await followLog(tools, undefined));
    const event = followed.publics[1];
    const other = followed.publics[3];
    const effect = (of: typeof event): Followed['publics'][number] => ({
      index: 9,
      entry: (of ?? followed.publics[0])?.entry as never,
      value: {},
      artifact: {
        kind: 'key-effective',
        bytes: new Uint8Array(0),
        value: {
          v: 1,
          type: 'key-effective',
          at: formatTime(logStart),
          event: toBase64Url(nodeCrypto.sha256(of?.artifact.bytes ?? utf8(''))),
        },
      },
    });
    const more = { ...followed, publics: [...followed.publics, effect(event), effect(other)] };
    expect(keyEntriesOf(nodeCrypto, more, [provider.did])).toHaveLength(2);
    await ledger.close();
  });
});

describe('a log that cannot be believed', () => {
  const said = async (tools: FollowTools, seen?: Followed): Promise<string> => {
    const followed = await followLog(tools, seen);
    return followed.ok ? 'believed' : followed.reason;
  };
  const changed = (
    tools: FollowTools,
    path: string,
    change: (bytes: Uint8Array) => Uint8Array | undefined,
  ): FollowTools => ({
    ...tools,
    fetch: async (asked) => {
      const bytes = await tools.fetch(asked);
      return asked.startsWith(path) && bytes !== undefined ? change(bytes) : bytes;
    },
  });
  const flip = (place: number) => (bytes: Uint8Array) => bytes.map((byte, at) => (at === place ? byte ^ 1 : byte));

  test('is refused with the reason', async () => {
    const { ledger, tools } = await world();
    const seen = unwrap(await followLog(tools, undefined));
    const later = { ...seen, checkpoint: { ...seen.checkpoint, size: 9 } };
    expect(await said(tools, later)).toBe('the checkpoint has 6 entries, 9 were seen before');
    expect(await said({ ...tools, fetch: async () => undefined })).toBe('there is no checkpoint yet');
    expect(await said(changed(tools, 'checkpoint', flip(30)))).not.toBe('believed');
    expect(await said(changed(tools, 'checkpoint', () => Uint8Array.of(255)))).not.toBe('believed');
    expect(await said(changed(tools, 'tile/entries', () => undefined))).toContain('is not there');
    expect(await said(changed(tools, 'tile/entries', flip(40)))).toContain('do not lead to the root');
    expect(await said(changed(tools, 'tile/entries', (bytes) => bytes.subarray(0, 100)))).toContain(
      'ends inside an entry',
    );
    expect(await said(changed(tools, 'tile/entries', () => encodeBundle([utf8('x')])))).toContain('too few entries');
    expect(await said(changed(tools, 'artifact', () => undefined))).toContain('is not served');
    expect(await said(changed(tools, 'artifact', flip(5)))).toContain('the digest of something else');
    expect(await said(tools)).toBe('believed');
    await ledger.close();
  });

  /** A log of one entry that the true log key signed: what stands in it is wrong in itself. */
  const signedLog = async (entry: Uint8Array, artifact: Uint8Array): Promise<FollowTools> => {
    const { checkpointText, readVerifierKey, signatureLine } = await import('../../contracts/ledger/note.ts');
    const { leafHash } = await import('../../contracts/ledger/tree.ts');
    const { signEd25519 } = await import('../../test/support/keys.ts');
    const key = readVerifierKey(nodeCrypto, logKeys.vkey);
    if (!key.ok) throw new Error(key.reason);
    const text = checkpointText({ origin, size: 1, root: leafHash(nodeCrypto, entry) });
    const note = `${text}\n${signatureLine(origin, key.value.keyId, signEd25519(keys.log, utf8(text)))}`;
    const files = new Map<string, Uint8Array>([
      ['checkpoint', utf8(note)],
      [bundlePath(0, 1), encodeBundle([entry])],
      [`artifact/${toHex(nodeCrypto.sha256(artifact))}`, artifact],
    ]);
    const policy = unwrap(readPolicy(nodeCrypto, policyText));
    return { crypto: nodeCrypto, policy, registryKey: logKeys.registryKey, fetch: async (path) => files.get(path) };
  };
  const publicEntry = (artifact: Uint8Array) =>
    utf8(
      entryText(
        buildEntry({
          digest: nodeCrypto.sha256(artifact),
          signature: signDer(keys.registry, artifact),
          spki: keys.registry.spki,
        }),
      ),
    );

  test.each([
    ['an entry of another form', utf8('{}'), utf8('x'), 'entry 0'],
    ['an entry that is no text', Uint8Array.of(255), utf8('x'), 'entry 0'],
    ['a public artifact that is no JSON', publicEntry(utf8('x')), utf8('x'), 'is not canonical JSON'],
    ['a public artifact that is no text', publicEntry(Uint8Array.of(255)), Uint8Array.of(255), 'is not canonical JSON'],
    [
      'a public artifact of an unknown kind',
      publicEntry(utf8('{"type":"x"}')),
      utf8('{"type":"x"}'),
      'is no public artifact',
    ],
  ])('refuses %s, though the log signed it', async (_name, entry, artifact, reason) => {
    expect(await said(await signedLog(entry, artifact))).toContain(reason);
  });

  test('an entry is proven only by tiles that lead to the root', async () => {
    const { ledger, tools } = await world();
    const { checkpoint } = unwrap(await followLog(tools, undefined));
    const proven = async (with_: FollowTools, index: number) => {
      const found = await proveEntry(with_, index, checkpoint);
      return found.ok ? 'proven' : found.reason;
    };
    expect(await proven(tools, 3)).toBe('proven');
    expect(await proven(tools, 6)).toContain('is not covered');
    expect(
      await proven(
        changed(tools, 'tile/entries', () => undefined),
        3,
      ),
    ).toContain('is not there');
    expect(
      await proven(
        changed(tools, 'tile/0', () => undefined),
        3,
      ),
    ).toContain('is not there');
    expect(await proven(changed(tools, 'tile/0', flip(3)), 3)).toContain('do not prove');
    expect(await proven(changed(tools, 'tile/entries', flip(2)), 0)).toContain('entry 0');
    const bad = changed(tools, 'tile/entries', () => encodeBundle(Array.from({ length: 6 }, () => Uint8Array.of(255))));
    expect(await proven(bad, 3)).toContain('entry 3');
    expect(await fetchEntries(tools.fetch, 2, 6)).toMatchObject({ ok: true, value: { length: 4 } });
    await ledger.close();
  });

  test('no frame without its entries, and no receipt of other records', async () => {
    const { ledger, tools, statement, agreement, sums } = await world();
    const followed = unwrap(await followLog(tools, undefined));
    const parts = { statement, agreement, sums, anchors: [] };
    const reason = async (change: Partial<typeof parts>, with_ = tools) => {
      const frame = await frameOf(with_, followed, { ...parts, ...change });
      return frame.ok ? 'made' : frame.reason;
    };
    expect(await reason({})).toBe('made');
    expect(await reason({ statement: agreement })).not.toBe('made');
    expect(await reason({ statement: { ...statement, index: 6 } })).toContain('is not covered');
    expect(await reason({ agreement: { ...agreement, index: 6 } })).toContain('is not covered');
    let asked = 0;
    const losing = changed(tools, 'tile/entries', (bytes) => {
      asked += 1;
      return asked > 2 ? undefined : bytes;
    });
    expect(await reason({}, losing)).toContain('is not there');
    const frame = unwrap(await frameOf(tools, followed, parts));
    const [access = accessOf(1)] = accesses;
    const others = [...records.slice(0, 2), accessOf(4).record];
    expect(receiptOf(nodeCrypto, frame, access, others)).toMatchObject({ ok: false });
    expect(packedReceiptsOf(nodeCrypto, frame, [access], [])).toMatchObject({ ok: false });
    const broken: ReceiptFrame = { ...frame, statement: frame.agreement };
    expect(receiptOf(nodeCrypto, broken, access, records)).toMatchObject({ ok: false });
    await ledger.close();
  });
});
