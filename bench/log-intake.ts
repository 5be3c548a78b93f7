import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { aesArtifactSeal } from '../broker/adapters/crypto/artifact-seal.ts';
import { nodeLogKeys } from '../broker/adapters/crypto/log-keys.ts';
import { fileLogFiles } from '../broker/adapters/files/log-files.ts';
import { fileSignedStore } from '../broker/adapters/files/signed-store.ts';
import { sqlArtifactStore, sqlJoinCodeStore, sqlLogStore } from '../broker/adapters/sql/log-store.ts';
import { type LogTables, logMigrations } from '../broker/adapters/sql/log-tables.ts';
import { Ledger } from '../broker/ledger/service.ts';
import { fromBase64, utf8 } from '../contracts/bytes.ts';
import { jwsText, readJws } from '../contracts/ledger/jws.ts';
import { nodeCrypto } from '../kernel/crypto.ts';
import { nodeFiles } from '../kernel/files.ts';
import { seededRandom } from '../kernel/random.ts';
import { migrate } from '../kernel/sql/migrate.ts';
import { openSqlite } from '../kernel/sql/sqlite.ts';
import { createVerifyPool } from '../kernel/verify-pool.ts';
import { keys, origin } from '../test/support/ledger-world.ts';
import { joinAll, logBench } from '../test/support/log-bench.ts';
import { agreementBody, consumer, provider, statementBody } from '../test/support/log-parties.ts';
import { type BenchRow, isTiny, median } from './row.ts';

const perRound = isTiny ? 50 : 4_000;
const rounds = isTiny ? 1 : 4;
const inFlight = 2_000;

/** Runs `work` for each item, so many at a time, and gives the rate a second. */
const rateOf = async <Item>(items: readonly Item[], work: (item: Item) => Promise<unknown>): Promise<number> => {
  const queue = items.values();
  const start = process.hrtime.bigint();
  const worker = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return items.length / (Number(process.hrtime.bigint() - start) / 1e9);
};

type Body = ReturnType<typeof statementBody>['body'];

/** The three signatures of one statement and nothing else: two parties, one leaf key. */
const bareChecks = (body: Body): ((inPool: ReturnType<typeof createVerifyPool>) => Promise<unknown>) => {
  const jws = readJws(body.artifact, 'stekker-usage-statement+jws');
  if (!jws.ok) throw new Error(jws.reason);
  const spkis = [provider.key.spki, consumer.key.spki];
  const artifact = utf8(jwsText(body.artifact));
  const leaf = fromBase64(body.spki) ?? new Uint8Array(0);
  const leafSignature = fromBase64(body.leafSignature) ?? new Uint8Array(0);
  return (inPool) =>
    inPool((crypto) => {
      for (const [place, { signingInput, signature }] of jws.value.signatures.entries())
        crypto.verify('Ed25519', spkis[place] ?? leaf, signingInput, signature);
      return crypto.verify('ES256-DER', leaf, artifact, leafSignature);
    });
};

const startLedger = async (folder: string): Promise<{ ledger: Ledger; close: () => Promise<void> }> => {
  const rows = openSqlite<LogTables>({ path: join(folder, 'rows.sqlite') });
  await migrate(rows.db, 'ledger', logMigrations);
  const random = seededRandom('bench');
  const ledger = await Ledger.start({
    ...logBench().options,
    store: sqlLogStore(rows.db),
    artifacts: sqlArtifactStore(rows.db),
    joinCodes: sqlJoinCodeStore(rows.db),
    files: fileLogFiles(nodeFiles, join(folder, 'log'), 'a'),
    signed: fileSignedStore({ files: nodeFiles, crypto: nodeCrypto, token: 'bench' }, join(folder, 'intent')),
    keys: nodeLogKeys(origin, { log: keys.log.privateKey, registry: keys.registry.privateKey }),
    seal: aesArtifactSeal(random.bytes(32), random),
    limits: {},
    checkpointMs: 1_000,
  });
  await joinAll(ledger);
  return {
    ledger,
    close: async () => {
      await ledger.close();
      await rows[Symbol.asyncDispose]();
    },
  };
};

/** The same three checks one after the other on one core: what ledger §9 derives its figure from. */
const syncRate = (bodies: readonly Body[]): number => {
  const now = <Value>(check: (crypto: typeof nodeCrypto) => Value) => Promise.resolve(check(nodeCrypto));
  const checks = bodies.map(bareChecks);
  const start = process.hrtime.bigint();
  for (const check of checks) void check(now);
  return bodies.length / (Number(process.hrtime.bigint() - start) / 1e9);
};

/**
 * Statements into the log, each parsed, verified, committed with full sync, promised and published. The limit is the
 * three signature checks of a statement and nothing else: on one core, and in the same thread pool.
 */
export const run = async (): Promise<BenchRow[]> => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-bench-log-'));
  const { ledger, close } = await startLedger(folder);
  const inPool = createVerifyPool(nodeCrypto);
  const rates: { ours: number; oneCore: number; pool: number }[] = [];
  try {
    for (let round = 0; round < rounds; round += 1) {
      const agreements = Array.from({ length: perRound }, (_, place) => agreementBody({ name: `${round}-${place}` }));
      await rateOf(agreements, ({ body }) => ledger.register(body, provider.did));
      const statements = agreements.map((agreement) => statementBody({ agreement }).body);
      const oneCore = syncRate(statements);
      const pool = await rateOf(statements.map(bareChecks), (check) => check(inPool));
      rates.push({ ours: await rateOf(statements, (body) => ledger.register(body, consumer.did)), oneCore, pool });
    }
  } finally {
    await close();
    rmSync(folder, { recursive: true, force: true });
  }
  const row = (name: string, of: 'oneCore' | 'pool', target: number | null): BenchRow => {
    const ratio = median(rates.map((rate) => rate.ours / rate[of]));
    return {
      name,
      value: median(rates.map(({ ours }) => ours)),
      unit: '/s',
      limit: median(rates.map((rate) => rate[of])),
      ratio,
      target: target === null ? 'for comparison' : '≥ 80 % of the limit',
      isHit: target === null ? null : ratio >= target,
      growth: 'constant in entries, agreements and participants',
    };
  };
  return [
    row(`statements into the log, durable, ${inFlight} in flight; checks on one core`, 'oneCore', 0.8),
    row('the same, beside the checks alone on every core', 'pool', null),
  ];
};
