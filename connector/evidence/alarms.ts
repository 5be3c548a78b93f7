import { toHex, utf8 } from '../../contracts/bytes.ts';
import { canonicalize } from '../../contracts/json.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Alarm, AlarmStore, KeptAlarm } from './ports.ts';

/** Alarms are kept with what shows them before anybody is told; one that says the same is kept and told once. */

/** Keeps an alarm, and tells it when it is new. */
export type RaiseAlarm = (alarm: Alarm) => Promise<void>;

export interface AlarmOptions {
  readonly store: AlarmStore;
  readonly clock: Clock;
  readonly log: Logger;
  /** Whoever watches: the operator's event stream. */
  readonly notify: (alarm: KeptAlarm) => void;
}

export const createAlarms =
  ({ store, clock, log, notify }: AlarmOptions): RaiseAlarm =>
  async (alarm) => {
    const { code, participant, detail } = alarm;
    const id = toHex(nodeCrypto.sha256(utf8(canonicalize([code, participant, detail]))));
    const kept: KeptAlarm = { ...alarm, id, at: clock.now() };
    if (!(await store.keep(kept))) return;
    log.error({ alarm: code, id, participant }, detail);
    notify(kept);
  };
