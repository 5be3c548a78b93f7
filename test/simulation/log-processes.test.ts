import { describe, expect, test } from 'vitest';
import type { LogKeys, Registered } from '../../broker/ledger/ports.ts';
import { toHex, utf8 } from '../../contracts/bytes.ts';
import { isAppError } from '../../contracts/errors.ts';
import { readNote } from '../../contracts/ledger/note.ts';
import { leafHash, rootOf } from '../../contracts/ledger/tree.ts';
import { systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { type Random, seededRandom } from '../../kernel/random.ts';
import { origin } from '../support/ledger-world.ts';
import { logKeys } from '../support/log-bench.ts';
import { keyEventBody, provider } from '../support/log-parties.ts';
import { type LogProcess, logWorld } from '../support/log-processes.ts';

/**
 * Three processes of one log, any of which stands still at any call that leaves it, for longer than a lease, and then goes
 * on: a machine that was paused, a disk or a network that hung. Every submission at every process gets its promise, each
 * entry stands once, no size ever has two roots, and what is served never goes back. (ledger §12 "one writer"; §17)
 */
const runs = Number(process.env.STEKKER_PAUSES ?? 12);
const first = process.env.STEKKER_SEED ?? String(systemClock.now());
const leaseMs = 150;

const pick = (random: Random, below: number): number =>
  ((random.bytes(1)[0] ?? 0) * 256 + (random.bytes(1)[0] ?? 0)) % below;

/** Every root that any process signed, by size, and what it signed twice with another root. */
const signatures = () => {
  const roots = new Map<number, string>();
  const faults: string[] = [];
  const keys: LogKeys = {
    ...logKeys,
    signAsLog: async (message) => {
      const note = readNote(`${Buffer.from(message).toString()}\n\u2014 x AAAAAAAA\n`);
      if (note.ok) {
        const { size, root } = note.value.checkpoint;
        const before = roots.get(size);
        if (before !== undefined && before !== toHex(root)) faults.push(`a second root for size ${size}`);
        roots.set(size, toHex(root));
      }
      return await logKeys.signAsLog(message);
    },
  };
  return { roots, faults, keys };
};

const join = async (did: string, at: LogProcess): Promise<Registered> => {
  const joinCode = await at.ledger.issueJoinCode(did, 600_000);
  const { body } = keyEventBody({ of: { ...provider, did, kid: `${did}#s` }, joinCode });
  for (;;) {
    try {
      return await at.ledger.register(body, did);
    } catch (error) {
      if (!isAppError(error, 'busy')) throw error; // told to ask again, as every submitter is when nobody writes for long
    }
  }
};

const writersOf = (processes: readonly LogProcess[]): readonly string[] =>
  processes.filter(({ ledger }) => ledger.isWriter).map(({ name }) => name);

const play = async (label: string): Promise<{ changes: number; stills: number }> => {
  const random = seededRandom(label);
  await using world = await logWorld({ leaseMs });
  const { roots, faults, keys } = signatures();
  const processes = await Promise.all(['a', 'b', 'c'].map((name) => world.start(name, { keys })));
  const sent: Promise<Registered>[] = [];
  let served = 0;
  let changes = 0;
  let stills = 0;
  let writer = writersOf(processes).join();
  for (let round = 0; round < 12; round += 1) {
    const still = processes[pick(random, 3)];
    if (pick(random, 2) === 0) still?.gate.pauseAt(1 + pick(random, 25));
    for (let count = 0; count < 1 + pick(random, 3); count += 1) {
      const at = processes[pick(random, 3)];
      if (at !== undefined) sent.push(join(`did:web:p${sent.length}.example`, at));
    }
    await systemClock.sleep(pick(random, 2) === 0 ? pick(random, 10) : leaseMs * 2);
    const awake = processes.find((one) => one !== still);
    const note = await awake?.ledger.newestCheckpoint();
    const size = Number(note?.split('\n')[1] ?? 0);
    if (size < served) faults.push(`size ${size} was served behind ${served}`);
    served = Math.max(served, size);
    if (still?.gate.isStill()) stills += 1;
    still?.gate.go();
    const next = writersOf(processes).join();
    if (next !== '' && next !== writer) changes += 1;
    if (next !== '') writer = next;
  }
  const promised = await Promise.all(sent);
  for (const { ledger } of processes) await ledger.close();
  expect(faults, label).toEqual([]);
  const head = await world.rows.head(origin);
  const rows = await world.rows.entries(origin, 0, head?.size ?? 0);
  expect(rows.length, label).toBe(1 + sent.length);
  expect(new Set(promised.map(({ index }) => index)).size, label).toBe(sent.length);
  for (const { index, promise } of promised) {
    const payload: { leafHash: string } = JSON.parse(Buffer.from(promise.payload, 'base64url').toString());
    expect(rows[index]?.leaf, label).toBe(payload.leafHash);
  }
  const leaves = rows.map((row) => leafHash(nodeCrypto, utf8(row.entry)));
  for (const [size, root] of roots) expect(toHex(rootOf(nodeCrypto, leaves.slice(0, size))), label).toBe(root);
  expect((await world.rows.published(origin))?.size, label).toBe(rows.length);
  expect(Buffer.from((await world.files.read('/log/checkpoint')) ?? []).toString(), label).toBe(
    (await world.rows.published(origin))?.note,
  );
  return { changes, stills };
};

describe('a log of several processes', () => {
  test(`${runs} runs in which processes stand still: all promises kept, each entry once, one tree`, async () => {
    console.log(`seed ${first}`);
    let changes = 0;
    let stills = 0;
    for (let run = 0; run < runs; run += 1) {
      const its = await play(`seed ${first} ${run}`);
      changes += its.changes;
      stills += its.stills;
    }
    console.log(`${stills} pauses, ${changes} changes of the writer`);
    expect(stills).toBeGreaterThan(runs / 2);
    expect(changes).toBeGreaterThan(runs / 10);
  }, 300_000);
});
