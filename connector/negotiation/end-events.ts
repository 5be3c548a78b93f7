import { z } from 'zod';
import { toBase64Url } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Json } from '../../contracts/json.ts';
import type { AgreementEvent } from '../../contracts/ledger/agreement.ts';
import {
  agreementEvent,
  agreementEventText,
  readAgreementEvent,
  type SignedBy,
} from '../../contracts/ledger/agreement.ts';
import { assembleJws, type GeneralJws, generalJws } from '../../contracts/ledger/jws.ts';
import { formatTime, parseTime } from '../../contracts/time.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { PeerTransport } from '../exchange/ports.ts';
import { mayRetry } from '../exchange/rules.ts';
import type { AgreementEnd, AgreementSigner, NegotiationRow, PeerExtensions, PrivateJwk } from './ports.ts';
import { endFault } from './rules.ts';

/**
 * The events that end an agreement (wire §3, step 4; dsp §12.3): made and signed here, brought to the peer, and
 * countersigned for it. An end takes nothing away that was used, so the peer's is countersigned without asking anybody.
 */

const privateJwk = z.record(z.string().max(16), z.string().max(512));

/** An artifact that one party sends the other, with what the other needs to register it. */
export const signedParts = z.looseObject({ artifact: generalJws, leafKey: privateJwk });

export interface SignedParts {
  readonly artifact: GeneralJws;
  readonly leafKey: PrivateJwk;
}

export interface EndEventOptions {
  readonly signer: AgreementSigner;
  readonly extensions: PeerExtensions;
  readonly transport: PeerTransport;
  readonly clock: Clock;
}

export interface EndEvents {
  /** Our own event; without an artifact where we hold no signed agreement. */
  readonly make: (
    row: NegotiationRow,
    what: { readonly event: 'void' | 'end'; readonly reason: string },
  ) => Promise<AgreementEnd>;
  /** The peer's event with our signature. @throws AppError `agreement-refused`. */
  readonly accept: (row: NegotiationRow, parts: SignedParts) => Promise<AgreementEnd>;
  /** Brings our event to the peer; undefined when it must be tried again. */
  readonly deliver: (row: NegotiationRow, end: AgreementEnd) => Promise<Delivery | undefined>;
}

/** The end after its delivery, and the status of a refusal. */
export interface Delivery {
  readonly end: AgreementEnd;
  readonly refusedWith: number | null;
}

const typ = 'stekker-agreement-event+jws';
const maxReason = 1_000;

const refuse = (detail: string): AppError => new AppError('agreement-refused', { detail });

const make = async (
  { signer, clock }: EndEventOptions,
  row: NegotiationRow,
  { event, reason: said }: { readonly event: 'void' | 'end'; readonly reason: string },
): Promise<AgreementEnd> => {
  const reason = said.toWellFormed(); // half a character cannot be signed
  if (reason.length > maxReason)
    throw new AppError('body-invalid', { faults: [{ path: '/reason', message: `is longer than ${maxReason}` }] });
  const { agreement } = row.data;
  const end = { event, by: 'us', reason, effectiveAt: clock.now() } as const;
  if (agreement?.artifact == null) return { ...end, artifact: null, leafKey: null, delivered: true, settled: true };
  const leaf = signer.makeLeafKey();
  const payload = agreementEventText(
    agreementEvent.parse({
      v: 1,
      type: 'agreement-event',
      agreementDigest: agreement.digest,
      event,
      effectiveAt: formatTime(end.effectiveAt),
      reason,
      leafKey: leaf.id,
      salt: toBase64Url(signer.randomBytes(32)),
    }),
  );
  const artifact = assembleJws(payload, [await signer.sign(row.participant, { typ, payload })]);
  return { ...end, artifact, leafKey: leaf.privateJwk, delivered: event === 'void', settled: false };
};

type ReadEvent = SignedBy<AgreementEvent>;

/** Reads the peer's event: one that it signed itself, first. */
const readByPeer = async ({ signer }: EndEventOptions, row: NegotiationRow, artifact: Json): Promise<ReadEvent> => {
  const read = readAgreementEvent(artifact);
  if (!read.ok) throw refuse(`the event ${read.reason}`);
  if (!(await signer.verify(read.value.jws, { typ, index: 0, did: row.peer })))
    throw refuse('the signature of the event does not hold');
  return read.value;
};

const accept = async (
  options: EndEventOptions,
  row: NegotiationRow,
  { artifact, leafKey }: SignedParts,
): Promise<AgreementEnd> => {
  const { signer, clock } = options;
  const { value, payload } = await readByPeer(options, row, artifact);
  const { digest = '' } = row.data.agreement ?? {};
  const fault = endFault(value, { digest: digest === '' ? value.agreementDigest : digest, now: clock.now() });
  if (fault !== undefined) throw refuse(fault);
  if (signer.leafKeyId(leafKey) !== value.leafKey) throw refuse('the leaf key is another than the event names');
  const [theirs] = artifact.signatures;
  // Under plain-dsp a consumer holds no artifact, and what it cannot check it does not sign.
  const own =
    digest === '' ? [] : assembleJws(payload, [await signer.sign(row.participant, { typ, payload })]).signatures;
  return {
    event: 'end',
    by: 'peer',
    reason: value.reason,
    effectiveAt: parseTime(value.effectiveAt) ?? clock.now(),
    artifact: { payload: artifact.payload, signatures: [...(theirs === undefined ? [] : [theirs]), ...own] },
    leafKey,
    delivered: true,
    settled: digest === '',
  };
};

const eventAnswer = z.looseObject({ artifact: generalJws, leafKey: privateJwk.optional() });

/** What the answer makes of our end: countersigned, or replaced by the peer's own that was under way at the same time. */
const answered = async (
  options: EndEventOptions,
  row: NegotiationRow,
  end: AgreementEnd & { readonly artifact: GeneralJws },
  body: Json | undefined,
): Promise<AgreementEnd> => {
  const answer = eventAnswer.safeParse(body);
  if (!answer.success) throw refuse('the answer to our event cannot be read');
  const { artifact, leafKey } = answer.data;
  if (artifact.payload !== end.artifact.payload) {
    if (leafKey === undefined) throw refuse('the answer is another event without its leaf key');
    return accept(options, row, { artifact, leafKey });
  }
  const [, theirs] = artifact.signatures;
  const both = { payload: end.artifact.payload, signatures: [...end.artifact.signatures] };
  if (theirs === undefined) return { ...end, delivered: true }; // acknowledged: one signature has to do
  both.signatures.push(theirs);
  if (!(await options.signer.verify(both, { typ, index: 1, did: row.peer })))
    throw refuse("the peer's signature under our event does not hold");
  return { ...end, artifact: both, delivered: true };
};

const deliver = async (
  options: EndEventOptions,
  row: NegotiationRow,
  end: AgreementEnd,
): Promise<Delivery | undefined> => {
  const { artifact, leafKey } = end;
  const root = await options.extensions.agreements(row.participant, row.peer);
  if (root === undefined || artifact === null) return { end: { ...end, delivered: true }, refusedWith: null };
  const id = encodeURIComponent(String(row.data.agreement?.agreement['@id'] ?? ''));
  const answer = await options.transport.post({
    participant: row.participant,
    peer: row.peer,
    url: `${root}/${id}/events`,
    id: `${row.pid} end`,
    body: { artifact, leafKey },
  });
  if (answer.status < 300)
    return { end: await answered(options, row, { ...end, artifact }, answer.body), refusedWith: null };
  return mayRetry(answer.status, false) ? undefined : { end: { ...end, delivered: true }, refusedWith: answer.status };
};

export const createEndEvents = (options: EndEventOptions): EndEvents => ({
  make: (row, what) => make(options, row, what),
  accept: (row, parts) => accept(options, row, parts),
  deliver: (row, end) => deliver(options, row, end),
});
