import { textOf, toBase64, toBase64Url } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import { type Followed, type FollowedEntry, type FollowTools, followLog } from '../../contracts/ledger/follow.ts';
import { bad, type Checked, good } from '../../contracts/ledger/forms.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Logger } from '../../kernel/log.ts';
import type { RaiseAlarm } from './alarms.ts';
import type { KnownLog, LogIdentity } from './known-log.ts';
import type { FollowedStore, LogReader, OwnKeyEvents, PromiseStore } from './ports.ts';
import { checkPromises } from './promises.ts';

/**
 * Follows the broker's log: every new entry is hashed into the tree that was seen before, so a log that shrinks or forks is
 * found out, and every key event is looked at, so that nobody speaks in our name unnoticed (ledger §4, §17).
 */

export interface Follower extends AsyncDisposable {
  /**
   * Reads what is new. Who asks during a visit gets the one behind it, together with all others who do: the log may have
   * grown since it began.
   *
   * @throws AppError `not-yet` while there is no checkpoint, `fetch-failed`, `log-not-believed`.
   */
  readonly follow: () => Promise<Followed>;
  /** What is known without asking the log; undefined before the first visit ever. @throws AppError as `follow`. */
  readonly current: () => Promise<Followed | undefined>;
  /** For proofs: reads the log's files. */
  readonly tools: () => Promise<FollowTools>;
}

export interface FollowerOptions {
  readonly identity: LogIdentity;
  readonly reader: LogReader;
  readonly store: FollowedStore;
  readonly promises: PromiseStore;
  readonly ownKeys: OwnKeyEvents;
  readonly clock: Clock;
  readonly alarm: RaiseAlarm;
  readonly logger: Logger;
  /** ms between visits; one minute unless said otherwise. */
  readonly intervalMs?: number;
}

/** A cache may show a checkpoint for a second after the next one: what looks wrong is looked at again after this. */
const secondLookMs = 2_000;
const defaultIntervalMs = 60_000;

interface Looked {
  readonly result: Checked<Followed>;
  /** The checkpoint as it was shown at this visit. */
  readonly shown: string | null;
}

const look = async (tools: FollowTools, seen: Followed | undefined): Promise<Looked> => {
  let shown: string | null = null;
  const fetch: FollowTools['fetch'] = async (path) => {
    const bytes = await tools.fetch(path);
    if (path === 'checkpoint' && bytes !== undefined) shown = textOf(bytes) ?? '';
    return bytes;
  };
  const result = await followLog({ ...tools, fetch }, seen);
  return { result, shown };
};

/** Entry 0 must found exactly the log that was named at first contact. */
const checkGenesis = (
  { origin, registryKey, trusted }: KnownLog,
  [first]: readonly FollowedEntry[],
): Checked<undefined> => {
  const said = first?.index === 0 && first.artifact.kind === 'genesis' ? first.artifact.value : undefined;
  if (said === undefined) return bad('the log does not begin with its genesis');
  const fits = said.origin === origin && said.registryKey === toBase64(registryKey) && said.logKey === trusted.vkey;
  return fits ? good(undefined) : bad('the genesis of the log names other keys than its broker');
};

const tellForeignKeys = async (
  { ownKeys, alarm }: FollowerOptions,
  entries: readonly FollowedEntry[],
): Promise<void> => {
  for (const { index, artifact, value } of entries) {
    if (artifact.kind !== 'key-event') continue;
    const { did, event, seq } = artifact.value;
    const participant = ownKeys.participantOf(did);
    if (participant === undefined) continue;
    if (await ownKeys.made(participant, toBase64Url(nodeCrypto.sha256(artifact.bytes)))) continue;
    await alarm({
      code: 'foreign-key-event',
      participant,
      detail: `entry ${index} of the log is a key event for ${did} (${event}, seq ${seq}) that was not made here`,
      evidence: { index, artifact: value },
    });
  }
};

/** Reads on from `seen`; what cannot be believed twice is kept as evidence and refused. */
const read = async (
  { alarm, clock }: FollowerOptions,
  known: KnownLog,
  visit: { readonly tools: FollowTools; readonly seen: Followed | undefined; readonly signal: AbortSignal },
): Promise<Followed> => {
  const { tools, seen, signal } = visit;
  let { result, shown } = await look(tools, seen);
  if (shown === null && seen === undefined) throw new AppError('not-yet', { detail: 'the log has no checkpoint yet' });
  if (!result.ok) {
    await clock.sleep(secondLookMs, signal);
    ({ result, shown } = await look(tools, seen));
  }
  const founded = result.ok ? checkGenesis(known, result.value.publics) : result;
  if (result.ok && founded.ok) return result.value;
  const reason = founded.ok ? '' : founded.reason;
  const evidence = { origin: known.origin, seen: seen?.note ?? null, shown };
  await alarm({ code: 'log-not-believed', participant: null, detail: `the log is not believed: ${reason}`, evidence });
  throw new AppError('log-not-believed', { detail: reason });
};

export const startFollower = (options: FollowerOptions): Follower => {
  const { identity, reader, store, promises, clock, logger } = options;
  const stopped = new AbortController();
  let state: Followed | undefined;
  let visiting: Promise<Followed> | undefined;
  let waiting: Promise<Followed> | undefined;

  const toolsOf = ({ url, policy, registryKey }: KnownLog): FollowTools => ({
    crypto: nodeCrypto,
    policy,
    registryKey,
    fetch: (path) => reader.file(url, path),
  });

  const current = async (): Promise<Followed | undefined> => {
    state ??= await store.load((await identity.known()).origin);
    return state;
  };

  const visit = async (): Promise<Followed> => {
    const known = await identity.known();
    const tools = toolsOf(known);
    const seen = await current();
    const from = seen?.checkpoint.size ?? 0;
    const next = await read(options, known, { tools, seen, signal: stopped.signal });
    // Told before it is kept: a crash in between tells it again.
    await tellForeignKeys(options, next.publics.slice(seen?.publics.length ?? 0));
    if (next.checkpoint.size > from && !(await store.save(known.origin, from, next))) {
      state = await store.load(known.origin); // another process was faster, and believed what it kept
      return state ?? next;
    }
    state = next;
    await checkPromises({ ...options, store: promises }, tools, next);
    return next;
  };

  const begin = (): Promise<Followed> => {
    waiting = undefined;
    const own = visit().finally(() => {
      if (visiting === own) visiting = undefined;
    });
    visiting = own;
    return own;
  };

  const follow = (): Promise<Followed> => {
    if (waiting !== undefined) return waiting;
    if (visiting === undefined) return begin();
    waiting = visiting.then(begin, begin);
    return waiting;
  };

  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      try {
        await identity.compare();
        await follow();
      } catch (error) {
        logger.warn({ error }, 'the log could not be followed; it is tried again');
      }
      await clock.sleep(options.intervalMs ?? defaultIntervalMs, stopped.signal);
    }
  };
  const looping = loop();

  return {
    follow,
    current,
    tools: async () => toolsOf(await identity.known()),
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      await looping;
      await Promise.allSettled([visiting, waiting]);
    },
  };
};
