import { sign } from 'node:crypto';
import { fileLogFiles } from '../../broker/adapters/files/log-files.ts';
import { fileSignedStore } from '../../broker/adapters/files/signed-store.ts';
import { memoryLogStore } from '../../broker/adapters/memory/log-store.ts';
import type { ArtifactStore, ChainHead, JoinCodeStore, LogKeys, LogStore } from '../../broker/ledger/ports.ts';
import { Ledger, type LedgerOptions } from '../../broker/ledger/service.ts';
import { toHex } from '../../contracts/bytes.ts';
import { buildVerifierKey } from '../../contracts/ledger/note.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { FilePort } from '../../kernel/files.ts';
import { silentLogger } from '../../kernel/log.ts';
import { seededRandom } from '../../kernel/random.ts';
import { createVerifyPool } from '../../kernel/verify-pool.ts';
import { signDer, signEd25519 } from './keys.ts';
import { keys, origin } from './ledger-world.ts';
import { consumer, documentOf, keyEventBody, logStart, provider, type Signer, stranger } from './log-parties.ts';
import { marked } from './secrets.ts';
import { tornFiles } from './torn-files.ts';

/** A log on adapters in memory, for tests: what survives a restart is held here. */

export const logKeys: LogKeys = {
  vkey: buildVerifierKey(nodeCrypto, origin, keys.log.spki.subarray(12)),
  registryKey: keys.registry.spki,
  signAsLog: async (message) => signEd25519(keys.log, message),
  signAsRegistry: async (message, form) =>
    form === 'der'
      ? signDer(keys.registry, message)
      : sign('sha256', message, { key: keys.registry.privateKey, dsaEncoding: 'ieee-p1363' }),
};

/** A seal that shows whether texts go through it; real encryption is the adapter's. */
export const plainSeal = {
  seal: (text: string, label: string) => `sealed:${label}:${text}`,
  open: (sealed: string, label: string) =>
    sealed.startsWith(`sealed:${label}:`) ? sealed.slice(`sealed:${label}:`.length) : undefined,
};

/** The true time of the machine, but at the hour of the test's artifacts. */
export const shiftedClock = (start: number): Clock => {
  const offset = start - systemClock.now();
  return { now: () => systemClock.now() + offset, sleep: systemClock.sleep };
};

export interface LogBench {
  readonly store: LogStore & ArtifactStore & JoinCodeStore;
  readonly files: FilePort;
  readonly notes: string[];
  readonly options: LedgerOptions;
  readonly start: (changes?: Partial<LedgerOptions>) => Promise<Ledger>;
}

export const noChain: ChainHead = { head: async () => ({ state: 'none' }) };

interface BenchOptions {
  readonly files?: FilePort;
  readonly store?: LogStore & ArtifactStore & JoinCodeStore;
  readonly changes?: Partial<LedgerOptions>;
}

export const logBench = ({
  files = tornFiles(),
  store = memoryLogStore(),
  changes = {},
}: BenchOptions = {}): LogBench => {
  const notes: string[] = [];
  let life = 0;
  const people = [provider, consumer, stranger];
  const options: LedgerOptions = {
    origin,
    store,
    artifacts: store,
    joinCodes: store,
    files: fileLogFiles(files, '/log', 'a'),
    signed: fileSignedStore({ files, crypto: nodeCrypto, token: 'first' }, '/intent'),
    keys: logKeys,
    chain: noChain,
    seal: plainSeal,
    fetchDidDocument: async (did) => {
      const found = people.find((person) => person.did === did);
      return found && documentOf(found);
    },
    feed: (note) => void notes.push(note),
    crypto: nodeCrypto,
    verifyInPool: createVerifyPool(nodeCrypto),
    clock: shiftedClock(logStart),
    random: marked(seededRandom('log bench')),
    log: silentLogger,
    limits: { batchMs: 1 },
    checkpointMs: 1,
    ...changes,
  };
  return {
    store,
    files,
    notes,
    options,
    start: (more = {}) => {
      life += 1;
      const token = toHex(seededRandom(`life ${life}`).bytes(8));
      const signed = fileSignedStore({ files, crypto: nodeCrypto, token }, '/intent');
      return Ledger.start({ ...options, signed, ...more });
    },
  };
};

/** Lets parties join with a code each. */
export const joinAll = async (ledger: Ledger, people: readonly Signer[] = [provider, consumer]): Promise<void> => {
  for (const person of people) {
    const joinCode = await ledger.issueJoinCode(person.did, 60_000);
    await ledger.register(keyEventBody({ of: person, joinCode }).body, person.did);
  }
};

/** Resolves when a checkpoint of at least this size was published. */
export const published = async (bench: LogBench, size: number): Promise<string> => {
  for (let tries = 0; tries < 2_000; tries += 1) {
    const note = bench.notes.find((one) => Number(one.split('\n')[1]) >= size);
    if (note !== undefined) return note;
    await systemClock.sleep(1);
  }
  throw new Error(`no checkpoint of size ${size}`);
};
