import { describe, expect, test } from 'vitest';
import { memoryLogStore } from '../../broker/adapters/memory/log-store.ts';
import type { Batch, LogKeys, LogStore, Registered } from '../../broker/ledger/ports.ts';
import type { Ledger } from '../../broker/ledger/service.ts';
import { toHex, utf8 } from '../../contracts/bytes.ts';
import { readNote, readPolicy, verifyNote } from '../../contracts/ledger/note.ts';
import { bundlePath, decodeBundle, tilePath, tilesOf } from '../../contracts/ledger/tiles.ts';
import { leafHash, rootOf } from '../../contracts/ledger/tree.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { type Random, seededRandom } from '../../kernel/random.ts';
import { origin } from '../support/ledger-world.ts';
import { type LogBench, logBench, logKeys } from '../support/log-bench.ts';
import { documentOf, keyEventBody, logStart, provider } from '../support/log-parties.ts';
import { Crash, tornFiles } from '../support/torn-files.ts';

/**
 * The machine goes down at any operation on tiles, checkpoint or intent, between a commit and its answer, or in a signature;
 * what was not synced is lost or torn. After each restart: no second root for a size that was ever signed, every promise is
 * kept, every served file is what the rows say. (ledger §12, table; §17)
 */
const crashes = Number(process.env.STEKKER_CRASHES ?? 2_000);
const first = process.env.STEKKER_SEED ?? 'log';

/** Pauses end at once, so that a run takes milliseconds; the minute of the key events never comes. */
const hurriedClock = (): Clock => ({
  now: () => logStart,
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (ms < 60_000 || signal?.aborted) setImmediate(resolve);
      else signal?.addEventListener('abort', () => resolve(), { once: true });
    }),
});

interface Run {
  readonly random: Random;
  readonly files: ReturnType<typeof tornFiles>;
  readonly rows: ReturnType<typeof memoryLogStore>;
  /** Every root that was ever signed, by size. */
  readonly signed: Map<number, string>;
  readonly promises: Registered[];
  life: number;
  seq: number;
}

const pick = (random: Random, below: number): number =>
  ((random.bytes(1)[0] ?? 0) * 256 + (random.bytes(1)[0] ?? 0)) % below;

/** Rows survive once committed; the process that asked may not live to hear it. */
const mortalStore = (run: Run, dieAt: number): LogStore => {
  const born = run.life;
  let commits = 0;
  const alive = (): void => {
    if (run.life !== born) throw new Crash('the process is gone');
  };
  return {
    ...run.rows,
    commit: async (name: string, batch: Batch) => {
      alive();
      commits += 1;
      const answer = await run.rows.commit(name, batch);
      if (commits === dieAt) {
        run.files.crashAt(0);
        throw new Crash('the machine went down behind the commit');
      }
      return answer;
    },
    head: async (name: string) => {
      alive();
      if (commits >= dieAt) throw new Crash('the machine is down');
      return await run.rows.head(name);
    },
  };
};

const rememberingKeys = (run: Run): LogKeys => ({
  ...logKeys,
  signAsLog: async (message) => {
    const text = Buffer.from(message).toString();
    const note = readNote(`${text}\n\u2014 x AAAAAAAA\n`);
    if (note.ok) {
      const { size, root } = note.value.checkpoint;
      const before = run.signed.get(size);
      if (before !== undefined && before !== toHex(root)) throw new Error(`a second root for size ${size}`);
      run.signed.set(size, toHex(root));
    }
    return await logKeys.signAsLog(message);
  },
});

const startOf = (run: Run, dieAt: number): { bench: LogBench; start: () => Promise<Ledger> } => {
  const fetchDidDocument = async (did: string) => documentOf({ ...provider, did, kid: `${did}#s` });
  const bench = logBench({
    files: run.files,
    store: run.rows,
    changes: { clock: hurriedClock(), keys: rememberingKeys(run), fetchDidDocument },
  });
  const store = mortalStore(run, dieAt);
  return { bench, start: () => bench.start({ store }) };
};

/** Traffic until the machine goes down, or until everything is published. */
const live = async (run: Run, dieAt: number): Promise<boolean> => {
  let ledger: Ledger | undefined;
  try {
    ledger = await startOf(run, dieAt).start();
    const groups = 1 + pick(run.random, 3);
    for (let group = 0; group < groups; group += 1) {
      const sent = Array.from({ length: 1 + pick(run.random, 3) }, () => submit(run, ledger));
      const answers = await Promise.allSettled(sent);
      for (const answer of answers) if (answer.status === 'fulfilled') run.promises.push(answer.value);
      if (answers.some(({ status }) => status === 'rejected')) return false;
    }
    await ledger.close();
    return ledger.checkpoint?.split('\n')[1] === String(ledger.size);
  } catch {
    return false;
  } finally {
    run.life += 1;
  }
};

/** A cheap real entry: operators' join codes and key events of ever new people. */
const submit = async (run: Run, ledger: Ledger | undefined): Promise<Registered> => {
  if (ledger === undefined) throw new Crash('no ledger');
  run.seq += 1;
  const did = `did:web:p${run.seq}.example`;
  const person = { ...provider, did, kid: `${did}#s` };
  const joinCode = await ledger.issueJoinCode(did, 60_000);
  const { body } = keyEventBody({ of: person, joinCode });
  return await ledger.register(body, did);
};

const policy = readPolicy(nodeCrypto, `log ${logKeys.vkey}\nquorum none\n`);

/** What the world can see is what the rows say. */
const checkWorld = async (run: Run, label: string): Promise<void> => {
  const head = await run.rows.head(origin);
  const rows = await run.rows.entries(origin, 0, head?.size ?? 0);
  const leaves = rows.map((row) => leafHash(nodeCrypto, utf8(row.entry)));
  for (const { index, promise } of run.promises) {
    const payload: { leafHash: string } = JSON.parse(Buffer.from(promise.payload, 'base64url').toString());
    expect(rows[index]?.leaf, label).toBe(payload.leafHash);
  }
  for (const [size, root] of run.signed) expect(toHex(rootOf(nodeCrypto, leaves.slice(0, size))), label).toBe(root);
  const bytes = await run.files.read('/log/checkpoint');
  if (bytes === undefined || !policy.ok) return;
  const checkpoint = verifyNote(nodeCrypto, Buffer.from(bytes).toString(), policy.value);
  if (!checkpoint.ok) throw new Error(`${label}: ${checkpoint.reason}`);
  const { size, root } = checkpoint.value;
  expect(run.signed.get(size), label).toBe(toHex(root));
  for (const id of tilesOf(size)) {
    const tile = await run.files.read(`/log/${tilePath(id)}`);
    if (id.level === 0)
      expect(tile && toHex(tile), label).toBe(
        leaves
          .slice(id.index * 256, id.index * 256 + id.width)
          .map(toHex)
          .join(''),
      );
  }
  const bundle = decodeBundle((await run.files.read(`/log/${bundlePath(0, size)}`)) ?? new Uint8Array(0));
  expect(bundle.ok && bundle.value.map((entry) => Buffer.from(entry).toString()), label).toEqual(
    rows.slice(0, size).map((row) => row.entry),
  );
};

describe('log through crashes', () => {
  test(`${crashes} crashes: no second root for a size, no promise broken, no file half written`, async () => {
    let died = 0;
    let finished = 0;
    for (let number = 0; died < crashes; number += 1) {
      const label = `seed ${first} ${number}`;
      const random = seededRandom(label);
      const run: Run = {
        random,
        files: tornFiles(),
        rows: memoryLogStore(),
        signed: new Map(),
        promises: [],
        life: 0,
        seq: 0,
      };
      for (let life = 0; life < 4; life += 1) {
        const dieAt = pick(random, 3) === 0 ? 1 + pick(random, 4) : Number.POSITIVE_INFINITY;
        run.files.crashAt(1 + pick(random, 60));
        const isDone = await live(run, dieAt);
        if (!isDone) died += 1;
        run.files.restart(random);
        await checkWorld(run, label);
      }
      run.files.crashAt(Number.POSITIVE_INFINITY);
      expect(await live(run, Number.POSITIVE_INFINITY), label).toBe(true);
      finished += 1;
      await checkWorld(run, label);
      const size = (await run.rows.head(origin))?.size ?? 0;
      expect(run.signed.has(size), label).toBe(true);
    }
    expect(finished).toBeGreaterThan(crashes / 10);
  });
});
