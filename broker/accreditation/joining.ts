import { AppError, type ErrorCode } from '../../contracts/errors.ts';
import type { Clock } from '../../kernel/clock.ts';
import { firstKeyEvent } from '../../kernel/key-event.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import type { KeyEventStore, RegisterAtLog } from './ports.ts';

/** An accreditor's keys go into the broker's log like everybody's (ledger §4): by key event seq 1, with a one-time code. */

export interface JoinOptions {
  readonly keys: ParticipantKeys;
  /** The DID document, exactly as it is served. */
  readonly document: string;
  readonly store: KeyEventStore;
  readonly register: RegisterAtLog;
  readonly clock: Clock;
}

const codes: Readonly<Record<number, ErrorCode>> = {
  401: 'unauthenticated',
  403: 'forbidden',
  409: 'statement-conflict',
  422: 'entry-refused',
  503: 'not-yet',
};

/**
 * Registers our keys. Repeating it, after a lost answer or after years, is harmless.
 *
 * @throws AppError with the broker's reason; `fetch-failed` when it cannot be reached.
 */
export const joinLog = async ({ keys, document, store, register, clock }: JoinOptions, code: string): Promise<void> => {
  const artifact = await store.keepFirst(keys.did, document, firstKeyEvent(keys, document, clock.now()));
  const { status, detail } = await register({ kind: 'key-event', artifact, joinCode: code });
  if (status === 200 || status === 201) return;
  throw new AppError(codes[status] ?? 'fetch-failed', {
    detail: `the broker answered ${status}${detail === undefined ? '' : `: ${detail}`}`,
  });
};
