import { describe, expect, test } from 'vitest';
import { openSignedSeqs } from '../../connector/adapters/files/signed-seqs.ts';
import type { Access } from '../../connector/metering/account.ts';
import { Journal } from '../../connector/metering/journal.ts';
import { createMeter, type Meter } from '../../connector/metering/meter.ts';
import type { AccountKey } from '../../connector/metering/ports.ts';
import { defaultQuota, defaultWindow, nothing } from '../../connector/metering/window.pure.ts';
import type { UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { silentLogger } from '../../kernel/log.ts';
import { type Random, seededRandom } from '../../kernel/random.ts';
import { agreementFor, closeEntry, digestOf, openEntry, us } from '../support/meter-pair.ts';
import { type TornFiles, tornFiles } from '../support/torn-files.ts';

/**
 * The machine goes down at any operation on the journal and on the never-twice file; what was not synced is lost or torn.
 * After each restart: every access that was served is recorded, once, with its close when that was acknowledged; no second
 * digest can be claimed for a number. (ledger §17)
 */
const crashes = Number(process.env.STEKKER_CRASHES ?? 2_000);
const first = process.env.STEKKER_SEED ?? 'usage';

const pick = (random: Random, below: number): number =>
  ((random.bytes(1)[0] ?? 0) * 256 + (random.bytes(1)[0] ?? 0)) % below;

const info = agreementFor('provider');

interface Run {
  readonly random: Random;
  readonly files: TornFiles;
  /** Accesses whose first byte left, and what was acknowledged of their end. */
  readonly served: Map<string, 'open' | 'closed'>;
  readonly asked: Set<string>;
  readonly claimed: Map<string, { readonly seq: number; readonly digest: string }>;
  from: number | undefined;
}

/** A journal that failed stays so: its process is gone, and must not come back in the next life. */
const deadAfterwards = {
  ...systemClock,
  sleep: (_ms: number, signal?: AbortSignal) =>
    new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve())),
};

const start = async (run: Run): Promise<{ meter: Meter; journal: Journal; lines: ReadonlyMap<string, number> }> => {
  const lines = new Map<string, number>();
  const meter = createMeter({
    role: 'provider',
    clock: systemClock,
    log: silentLogger,
    window: defaultWindow,
    quota: defaultQuota,
    onChange: () => undefined,
  });
  const journal = await Journal.open({
    files: run.files,
    folder: '/journal',
    clock: deadAfterwards,
    log: silentLogger,
    segmentBytes: 4_096,
    from: run.from,
    replay: (text, place) => {
      const { t, request }: { t: string; request: string } = JSON.parse(text);
      lines.set(`${t} ${request}`, (lines.get(`${t} ${request}`) ?? 0) + 1);
      meter.replay(text, place);
    },
  });
  meter.attach(journal);
  const stored = { info, isEnded: false, conceded: nothing, settledBefore: 0 };
  const opened = { stored, newest: undefined, held: [], settledRequests: 0, settledBytes: 0 };
  meter.add(opened, new Set());
  return { meter, journal, lines };
};

const serve = async (run: Run, meter: Meter, entry: UsageOpen): Promise<void> => {
  run.asked.add(entry.request);
  const refusal = await new Promise((resolve) => meter.open(entry, resolve));
  if (refusal !== null) return;
  if (run.served.has(entry.request)) throw new Error(`${entry.request} was opened twice`);
  run.served.set(entry.request, 'open');
  if (pick(run.random, 4) === 0) return; // it is still under way when the machine goes down
  const close = closeEntry(entry);
  const failed = await new Promise((resolve) => meter.close(close, resolve));
  if (failed === false) run.served.set(entry.request, 'closed');
};

const keyOf = (agreement: string): AccountKey => ({ participant: us, role: 'provider', agreement });

/** Traffic until the machine goes down. */
const live = async (run: Run): Promise<void> => {
  const { meter } = await start(run);
  const seqs = await openSignedSeqs({ files: run.files, crypto: nodeCrypto }, '/signed');
  for (let round = 0; round < 40; round += 1) {
    const entries = Array.from({ length: 1 + pick(run.random, 4) }, () => openEntry(info.agreement, { proof: '' }));
    await Promise.all(entries.map((entry) => serve(run, meter, entry)));
    const agreement = digestOf(String(pick(run.random, 3)));
    const seq = (seqs.newest(keyOf(agreement))?.seq ?? 0) + 1;
    const digest = digestOf(`${agreement} ${seq} ${round}`);
    if (await seqs.claim(keyOf(agreement), seq, digest)) run.claimed.set(agreement, { seq, digest });
    if (!meter.isReady()) throw new Error('the machine is down');
  }
};

const checkWorld = async (run: Run, label: string): Promise<void> => {
  const { meter, journal, lines } = await start(run);
  const found: ReadonlyMap<string, Access> = meter.find(info.agreement)?.accesses ?? new Map();
  for (const [line, count] of lines) expect(count, `${label}: ${line}`).toBe(1);
  for (const [request, state] of run.served) {
    const access = found.get(`${request} 1`);
    expect(access, `${label}: ${request} was served and is not recorded`).toBeDefined();
    if (state === 'closed') expect(access?.close, label).toMatchObject({ bytes: 3, outcome: 'ok' });
  }
  for (const access of found.values()) expect(run.asked.has(access.request), label).toBe(true);
  const again = openEntry(info.agreement, { proof: '' });
  const repeated = [...run.served.keys()].at(-1);
  if (repeated !== undefined) {
    const refusal = await new Promise((resolve) => meter.open({ ...again, request: repeated }, resolve));
    expect(refusal, label).toMatchObject({ code: 'request-repeated' });
  }
  meter.closeLost();
  await journal[Symbol.asyncDispose]();
  for (const { standing } of found.values()) expect(standing, label).toBe('closed');
  const seqs = await openSignedSeqs({ files: run.files, crypto: nodeCrypto }, '/signed');
  for (const [agreement, { seq, digest }] of run.claimed) {
    const newest = seqs.newest(keyOf(agreement));
    expect(newest?.seq, label).toBeGreaterThanOrEqual(seq);
    if (newest?.seq === seq) expect(newest.digest, label).toBe(digest);
    expect(await seqs.claim(keyOf(agreement), seq, digestOf('another')), label).toBe(false);
  }
};

describe('journal and never-twice file through crashes', () => {
  test(`${crashes} crashes: nothing served is unrecorded, nothing doubled, no number signed twice`, async () => {
    let died = 0;
    for (let number = 0; died < crashes; number += 1) {
      const label = `seed ${first} ${number}`;
      const random = seededRandom(label);
      const run: Run = {
        random,
        files: tornFiles(),
        served: new Map(),
        asked: new Set(),
        claimed: new Map(),
        from: undefined,
      };
      for (let life = 0; life < 3; life += 1) {
        run.files.crashAt(1 + pick(random, 120));
        await live(run).catch(() => {
          died += 1;
        });
        run.files.restart(random);
        await checkWorld(run, label);
      }
    }
    expect(died).toBeGreaterThanOrEqual(crashes);
  });
});
