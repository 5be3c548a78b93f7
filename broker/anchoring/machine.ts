import type { AnchorCall, AnchorRow, Attempt, Evidence, Place } from './ports.ts';

/**
 * How an anchor moves (anchoring §5): queued → submitted → mined → safe → final, with replaced and refused. A re-org takes
 * it back; `final`, `replaced` and `refused` are ends that nothing moves. Pure: what the chain says comes in as an event.
 */

export type AnchorEvent =
  /** A nonce was chosen and a transaction signed: stored before it is sent. */
  | { readonly type: 'assigned'; readonly call: AnchorCall; readonly attempt: Attempt }
  /** The same call and nonce with a higher fee. */
  | { readonly type: 'repriced'; readonly attempt: Attempt }
  /** The event stands in a block of the chain. */
  | { readonly type: 'found'; readonly place: Place; readonly depth: 'mined' | 'safe' }
  /** The block is final, its hash stands at its height, and the proof holds. */
  | { readonly type: 'proven'; readonly place: Place; readonly evidence: Evidence }
  /** Nothing of it stands in a block, and its nonce is still free. */
  | { readonly type: 'absent' }
  /** Its nonce went to something else, or its call failed. */
  | { readonly type: 'displaced' }
  /** A larger checkpoint of the same log takes its place. */
  | { readonly type: 'superseded'; readonly reason: string }
  /** The contract will never take it. */
  | { readonly type: 'forbidden'; readonly reason: string };

/** What must follow, after the row is stored. */
export type AnchorEffect = 'send' | 'stop';

export interface AnchorStep {
  readonly row: AnchorRow;
  readonly effects: readonly AnchorEffect[];
}

type Change = Partial<Pick<AnchorRow, 'state' | 'call' | 'attempts' | 'place' | 'evidence' | 'reason'>>;

const step = (row: AnchorRow, change: Change, ...effects: readonly AnchorEffect[]): AnchorStep => ({
  row: { ...row, ...change },
  effects,
});

/** Whether the row has come to an end. */
export const isOver = ({ state }: Pick<AnchorRow, 'state'>): boolean =>
  state === 'final' || state === 'replaced' || state === 'refused';

/** What was in a block is in none any more: the same call is sent again, if it was ours. */
const lost = (row: AnchorRow): AnchorStep =>
  row.call === null
    ? step(row, { state: 'queued', place: null })
    : step(row, { state: 'submitted', place: null }, 'send');

/**
 * The next state of an anchor, and what must follow.
 *
 * @returns undefined when this event means nothing in this state.
 */
export const transition = (row: AnchorRow, event: AnchorEvent): AnchorStep | undefined => {
  if (isOver(row)) return undefined;
  switch (event.type) {
    case 'assigned':
      return row.state === 'queued'
        ? step(row, { state: 'submitted', call: event.call, attempts: [...row.attempts, event.attempt] }, 'send')
        : undefined;
    case 'repriced':
      return row.state === 'submitted' ? step(row, { attempts: [...row.attempts, event.attempt] }, 'send') : undefined;
    case 'found':
      return step(row, { state: event.depth, place: event.place });
    case 'proven':
      return step(row, { state: 'final', place: event.place, evidence: event.evidence });
    case 'absent':
      return row.state === 'queued' ? undefined : lost(row);
    case 'displaced':
      return row.state === 'queued' ? undefined : step(row, { state: 'queued', call: null, attempts: [], place: null });
    case 'superseded':
      return row.state === 'queued' ? step(row, { state: 'replaced', reason: event.reason }) : undefined;
    case 'forbidden':
      return row.state === 'queued' ? step(row, { state: 'refused', reason: event.reason }, 'stop') : undefined;
  }
};
