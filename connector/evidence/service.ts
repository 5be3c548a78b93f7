import type { ParticipantId } from '../../contracts/ids.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import type { PeerTransport } from '../exchange/ports.ts';
import { type AgreementRegistration, createAgreementRegistration } from './agreements.ts';
import { createAlarms } from './alarms.ts';
import { type Follower, startFollower } from './follower.ts';
import { createLogIdentity } from './known-log.ts';
import type {
  AlarmStore,
  FollowedStore,
  InLog,
  KeptAlarm,
  LogPinStore,
  LogReader,
  OwnKeyEvents,
  PromiseStore,
  RegistrationStore,
  StatedUsage,
} from './ports.ts';
import { createReceipts, type Receipts } from './receipts.ts';
import { createRegistrar, type Registrar } from './registrar.ts';

/** Evidence as one service: registration, following, receipts, and the alarms of all three. */

export interface EvidenceOptions {
  /** Origin of the broker, as configured. */
  readonly brokerUrl: string;
  readonly reader: LogReader;
  readonly transport: PeerTransport;
  readonly registrations: RegistrationStore;
  readonly promises: PromiseStore;
  readonly followed: FollowedStore;
  readonly pins: LogPinStore;
  readonly alarms: AlarmStore;
  readonly ownKeys: OwnKeyEvents;
  readonly stated: StatedUsage;
  readonly clock: Clock;
  readonly logger: Logger;
  /** After a task was added: wake the outbox worker. */
  readonly wake: () => void;
  /** Whoever watches: the operator's event stream. */
  readonly notify: (alarm: KeptAlarm) => void;
  /** ms between visits to the log. */
  readonly followIntervalMs?: number;
}

export interface Evidence extends AsyncDisposable {
  readonly registrar: Omit<Registrar, 'handlers'>;
  readonly agreements: AgreementRegistration;
  readonly follower: Pick<Follower, 'follow' | 'current'>;
  readonly receipts: Receipts;
  /** Where an agreement stands, as the log promised. */
  readonly registered: {
    readonly find: (participant: ParticipantId, agreementDigest: string) => Promise<InLog | undefined>;
  };
  /** For the outbox worker. */
  readonly handlers: Registrar['handlers'];
}

export const startEvidence = (options: EvidenceOptions): Evidence => {
  const { brokerUrl, reader, clock, logger, registrations } = options;
  const alarm = createAlarms({ store: options.alarms, clock, log: logger, notify: options.notify });
  const identity = createLogIdentity({ brokerUrl, reader, store: options.pins, alarm });
  const registrar = createRegistrar({
    ...options,
    store: registrations,
    log: identity.known,
    alarm,
  });
  const follower = startFollower({
    ...options,
    identity,
    store: options.followed,
    alarm,
    ...(options.followIntervalMs === undefined ? {} : { intervalMs: options.followIntervalMs }),
  });
  const receipts = createReceipts({ ...options, registrar, identity, follower, alarm });
  return {
    registrar,
    agreements: createAgreementRegistration(registrar, clock),
    follower,
    receipts,
    registered: {
      find: async (participant, agreementDigest) => {
        const found = await registrations.bySubject(participant, { kind: 'agreement', agreementDigest, subject: '' });
        return found?.outcome.state === 'registered' ? found.outcome : undefined;
      },
    },
    handlers: registrar.handlers,
    [Symbol.asyncDispose]: () => follower[Symbol.asyncDispose](),
  };
};
