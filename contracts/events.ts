import { z } from 'zod';
import { canonicalize } from './json.ts';
import type { SignedBy } from './ledger/agreement.ts';
import { type Checked, check, did, good, name, readCanonical, time, version } from './ledger/forms.ts';
import { type GeneralJws, generalJws, readJws } from './ledger/jws.ts';

/**
 * What a broker tells connectors (wire §7): each message a general JWS of one signature, typ `stekker-event+jws`. A notice
 * is what an issuer says of something it issued; an event carries it to one recipient, numbered without gaps.
 */

export const standingChanges = ['revoked', 'suspended', 'reinstated'] as const;
export type StandingChange = (typeof standingChanges)[number];

/** An issuer's own word about a credential (`subject` is its id): the broker cannot say it in the issuer's place. */
export const standingNotice = z.strictObject({
  v: version,
  type: z.enum(standingChanges),
  issuer: did,
  subject: name,
  at: time,
  effectiveAt: time,
  reason: z.string().max(1000),
});
export type StandingNotice = z.infer<typeof standingNotice>;

const numbered = { v: version, n: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER), at: time };

/** One event for one recipient. `evidence` is the issuer's notice; null where the broker speaks for itself. */
export const brokerEvent = z.strictObject({
  ...numbered,
  type: z.enum([...standingChanges, 'keys', 'agreement-ended', 'policy']),
  subject: name,
  effectiveAt: time,
  evidence: z.union([generalJws, z.null()]),
});
export type BrokerEvent = z.infer<typeof brokerEvent>;

/** Every second; `n` is that of the last event, `at` grows. */
export const heartbeat = z.strictObject({ ...numbered, type: z.literal('heartbeat') });

/** All notices in force, before anything else at a first connection or after a long gap. */
export const snapshot = z.strictObject({
  ...numbered,
  type: z.literal('snapshot'),
  events: z.array(brokerEvent.omit({ n: true })).max(100_000),
});
export type Snapshot = z.infer<typeof snapshot>;

export const brokerMessage = z.discriminatedUnion('type', [heartbeat, snapshot, brokerEvent]);
export type BrokerMessage = z.infer<typeof brokerMessage>;

export const brokerMessageText = (message: BrokerMessage): string => canonicalize(message);
export const standingNoticeText = (notice: StandingNotice): string => canonicalize(notice);

/** One event with its number in a stream: the JWS as JSON, `id` is `n`. */
export const readBrokerMessage = (value: unknown): Checked<SignedBy<BrokerMessage>> => readSigned(brokerMessage, value);

/** An issuer's notice, not verified yet. */
export const readStandingNotice = (value: unknown): Checked<SignedBy<StandingNotice>> =>
  readSigned(standingNotice, value);

const readSigned = <Payload>(schema: z.ZodType<Payload>, value: unknown): Checked<SignedBy<Payload>> => {
  const jws = readJws(value, 'stekker-event+jws');
  if (!jws.ok) return jws;
  const payload = readCanonical(schema, jws.value.payload);
  return payload.ok ? good({ ...jws.value, jws: value as GeneralJws, value: payload.value }) : payload;
};

/** What a broker says of itself at `<origin>/.well-known/stekker-broker`, open to all. */
export const brokerInfo = z.looseObject({
  did,
  name: z.string().max(200),
  log: z.looseObject({
    origin: name,
    /** Where checkpoint, tiles and artifacts are served, without trailing slash. */
    url: z.url().max(2048),
    vkey: z.string().max(1024),
    /** b64 SPKI */
    registryKey: z.string().max(256),
    policy: z.string().max(65_536),
  }),
  chain: z.union([z.looseObject({ chainId: z.string(), contract: z.string().regex(/^0x[0-9a-f]{40}$/) }), z.null()]),
  accreditors: z.array(did).max(1000),
});
export type BrokerInfo = z.infer<typeof brokerInfo>;

export const readBrokerInfo = (value: unknown): Checked<BrokerInfo> => check(brokerInfo, value);

/** Where a broker says it. */
export const brokerInfoPath = '/.well-known/stekker-broker';
