import { sameBytes, toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { entryParts, entryText, type LogEntry } from '../../contracts/ledger/entry.ts';
import { type Followed, type FollowTools, proveEntry } from '../../contracts/ledger/follow.ts';
import { jwsText } from '../../contracts/ledger/jws.ts';
import { leafHash } from '../../contracts/ledger/tree.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Logger } from '../../kernel/log.ts';
import type { RaiseAlarm } from './alarms.ts';
import type { InLog, PromiseStore } from './ports.ts';
import { uncoveredAfterMs } from './rules.ts';

/** Holds the log to its promises: each entry must stand where it was promised, as it was promised (ledger §9). */

export interface PromiseOptions {
  readonly store: PromiseStore;
  readonly clock: Clock;
  readonly alarm: RaiseAlarm;
  readonly logger: Logger;
}

/** Proofs fetched at one visit; the rest waits for the next. */
const maxAtOnce = 256;

/** Why the entry at the promised place is not the promised one. */
const fault = ({ leafHash: promised, artifact }: InLog, entry: LogEntry): string | undefined => {
  if (toBase64Url(leafHash(nodeCrypto, utf8(entryText(entry)))) !== promised)
    return 'another entry stands at the promised index';
  if (artifact === null) return undefined; // erased before we could compare
  return sameBytes(entryParts(entry).digest, nodeCrypto.sha256(utf8(jwsText(artifact))))
    ? undefined
    : 'the promised entry does not commit to the artifact that the log showed';
};

/** Checks what the followed tree covers, and names what it should cover by now. */
export const checkPromises = async (
  { store, clock, alarm, logger }: PromiseOptions,
  tools: Pick<FollowTools, 'crypto' | 'fetch'>,
  { checkpoint, note }: Pick<Followed, 'checkpoint' | 'note'>,
): Promise<void> => {
  const { origin, size } = checkpoint;
  for (const row of await store.open(origin, { below: size, limit: maxAtOnce })) {
    const { outcome, participant, digest, kind } = row;
    if (outcome.state !== 'registered') continue;
    const proven = await proveEntry(tools, outcome.index, checkpoint);
    if (!proven.ok) {
      logger.warn({ participant, index: outcome.index, reason: proven.reason }, 'an entry cannot be proven yet');
      continue;
    }
    const reason = fault(outcome, proven.value.entry);
    if (reason !== undefined)
      await alarm({
        code: 'promise-broken',
        participant,
        detail: `the ${kind} ${digest}: ${reason}`,
        evidence: { promise: outcome.promise, checkpoint: note, entry: proven.value.entry, proof: proven.value.proof },
      });
    await store.mark(participant, digest, reason === undefined ? 'proven' : 'broken');
  }
  const before = clock.now() - uncoveredAfterMs;
  for (const row of await store.uncovered(origin, { from: size, before, limit: maxAtOnce })) {
    const { outcome, participant, digest, kind } = row;
    if (outcome.state !== 'registered') continue;
    await alarm({
      code: 'promise-uncovered',
      participant,
      detail: `the ${kind} ${digest} was promised index ${outcome.index}, and no checkpoint covers it`,
      evidence: { promise: outcome.promise },
    });
  }
};
