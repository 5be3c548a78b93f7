import { fromBase64Url, orNothing, textOf, toBase64Url } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { canonicalize, type Json } from '../../contracts/json.ts';
import {
  type AgreementPayload,
  agreementDigestOf,
  agreementPayload,
  agreementText,
  checkRoles,
  readAgreementArtifact,
} from '../../contracts/ledger/agreement.ts';
import { assembleJws, type GeneralJws } from '../../contracts/ledger/jws.ts';
import { formatTime } from '../../contracts/time.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { createEndEvents, type EndEventOptions, type EndEvents, signedParts } from './end-events.ts';
import type { NegotiationRow, SignedAgreement } from './ports.ts';
import { rulesOf } from './rules.ts';

/** Agreements that both sides sign (wire §3). The provider signs when it agrees; the consumer in AGREED, before it verifies. */

export interface AgreementService {
  /** Provider: the agreement, and the artifact with our signature. */
  readonly draft: (row: NegotiationRow) => Promise<SignedAgreement>;
  /** Consumer: the provider's draft, compared with what DSP brought, with our signature. Undefined for a peer without extensions. */
  readonly countersign: (row: NegotiationRow) => Promise<SignedAgreement | undefined>;
  /** Consumer: brings our signature to the provider. */
  readonly deliverSignature: (row: NegotiationRow) => Promise<void>;
  /** Provider: the artifact with the consumer's signature, checked. */
  readonly accept: (row: NegotiationRow, artifact: Json) => Promise<SignedAgreement>;
  /** Provider: refuses a verification of an agreement that lacks a signature it must have. */
  readonly mustBeSigned: (row: NegotiationRow) => void;
  /** The events that end an agreement. */
  readonly ends: EndEvents;
}

export interface AgreementOptions extends EndEventOptions {
  readonly newId: () => string;
  readonly self: (participant: ParticipantId) => { readonly did: Did };
}

const typ = 'stekker-agreement+jws';

const refuse = (detail: string): AppError => new AppError('agreement-refused', { detail });

const payloadOf = (artifact: GeneralJws): string => textOf(orNothing(fromBase64Url(artifact.payload))) ?? '';

const idOf = (row: NegotiationRow): string => String(row.data.agreement?.agreement['@id'] ?? '');

/** What a draft of the peer must say, given what the protocol brought: everything but leaf key and salt. */
const draftFault = (payload: AgreementPayload, row: NegotiationRow, self: Did): string | undefined => {
  const { data } = row;
  const rules: readonly (readonly [boolean, string])[] = [
    [canonicalize(payload.agreement as Json) === canonicalize(data.agreement?.agreement ?? null), 'another agreement'],
    [payload.provider === row.peer && payload.consumer === self, 'other parties'],
    [payload.providerPid === row.peerPid && payload.consumerPid === row.pid, 'other pids'],
    [payload.assurance === data.assurance, 'another assurance'],
    [payload.price === data.price, 'another price plan'],
    [canonicalize(payload.offers) === canonicalize(data.offers), 'other offers'],
  ];
  return rules.find(([holds]) => !holds)?.[1];
};

const draft = async (options: AgreementOptions, row: NegotiationRow): Promise<SignedAgreement> => {
  const { signer, clock, newId } = options;
  const self = options.self(row.participant);
  const agreement = {
    '@type': 'Agreement',
    '@id': newId(),
    target: row.data.dataset,
    assigner: self.did,
    assignee: row.peer,
    timestamp: formatTime(clock.now()),
    ...rulesOf(row.data.offer),
  };
  const leaf = signer.makeLeafKey();
  const payload = agreementText(
    agreementPayload.parse({
      v: 1,
      type: 'agreement',
      agreement,
      providerPid: row.pid,
      consumerPid: row.peerPid,
      provider: self.did,
      consumer: row.peer,
      offers: row.data.offers,
      price: row.data.price,
      assurance: row.data.assurance,
      leafKey: leaf.id,
      salt: toBase64Url(signer.randomBytes(32)),
    }),
  );
  const artifact = assembleJws(payload, [await signer.sign(row.participant, { typ, payload })]);
  return { agreement, digest: agreementDigestOf(nodeCrypto, payload), artifact, leafKey: leaf.privateJwk };
};

/** The provider's draft, from its extension. */
const fetchDraft = async ({ transport, signer }: AgreementOptions, row: NegotiationRow, root: string) => {
  const answer = await transport.get({
    participant: row.participant,
    peer: row.peer,
    url: `${root}/${encodeURIComponent(idOf(row))}/draft`,
  });
  // No draft is not a wrong draft: a provider that has just started may not know us for a moment. It is asked again.
  if (answer.status !== 200)
    throw new AppError('fetch-failed', { detail: `the provider answered ${answer.status} when asked for its draft` });
  const body = signedParts.safeParse(answer.body);
  const artifact = readAgreementArtifact(body.data?.artifact);
  if (!body.success || !artifact.ok)
    throw refuse(`the provider's draft cannot be read: ${artifact.ok ? 'its leaf key' : artifact.reason}`);
  const { leafKey } = body.data;
  if (signer.leafKeyId(leafKey) !== artifact.value.value.leafKey)
    throw refuse("the provider's draft has another leaf key");
  return { read: artifact.value, leafKey };
};

const countersign = async (options: AgreementOptions, row: NegotiationRow): Promise<SignedAgreement | undefined> => {
  const { signer, extensions } = options;
  if (row.data.assurance !== 'cosigned' || row.data.agreement === null) return undefined;
  if (row.data.agreement.artifact !== null) return row.data.agreement; // signed before a crash: bring it again
  const root = await extensions.agreements(row.participant, row.peer);
  if (root === undefined) throw refuse('the offer is cosigned, and the provider has no agreements extension');
  const { did } = options.self(row.participant);
  const { read, leafKey } = await fetchDraft(options, row, root);
  const fault = draftFault(read.value, row, did);
  if (fault !== undefined) throw refuse(`the provider's draft is about ${fault}`);
  if (!(await signer.verify(read.jws, { typ, index: 0, did: row.peer })))
    throw refuse("the provider's signature does not hold");
  const [first] = read.jws.signatures;
  if (first === undefined) throw refuse('the draft is not signed');
  const own = assembleJws(read.payload, [await signer.sign(row.participant, { typ, payload: read.payload })]);
  const artifact = { payload: read.jws.payload, signatures: [first, ...own.signatures] };
  return { ...row.data.agreement, digest: agreementDigestOf(nodeCrypto, read.payload), artifact, leafKey };
};

/** Checks the consumer's signature under our own, unchanged one. */
const accept = async ({ signer }: AgreementOptions, row: NegotiationRow, value: Json): Promise<SignedAgreement> => {
  const kept = row.data.agreement;
  const artifact = readAgreementArtifact((value as { readonly artifact?: Json }).artifact);
  if (kept?.artifact == null || !artifact.ok) throw refuse(artifact.ok ? 'there is nothing to sign' : artifact.reason);
  if (artifact.value.payload !== payloadOf(kept.artifact)) throw refuse('the signature is over something else');
  const roles = checkRoles(artifact.value.signatures, artifact.value.value, 'cosigned');
  if (!roles.ok) throw refuse(roles.reason);
  if (canonicalize(artifact.value.jws.signatures[0] as Json) !== canonicalize(kept.artifact.signatures[0] as Json))
    throw refuse('our own signature was changed');
  if (!(await signer.verify(artifact.value.jws, { typ, index: 1, did: row.peer })))
    throw refuse('the signature does not hold');
  return { ...kept, artifact: artifact.value.jws };
};

export const createAgreements = (options: AgreementOptions): AgreementService => {
  const { transport, extensions } = options;
  return {
    ends: createEndEvents(options),
    draft: (row) => draft(options, row),
    countersign: (row) => countersign(options, row),
    deliverSignature: async (row) => {
      const root = await extensions.agreements(row.participant, row.peer);
      const artifact = row.data.agreement?.artifact;
      if (root === undefined || artifact == null) return;
      const url = `${root}/${encodeURIComponent(idOf(row))}/signature`;
      const answer = await transport.post({
        participant: row.participant,
        peer: row.peer,
        url,
        id: `${row.pid} signature`,
        body: { artifact },
      });
      if (answer.status >= 300)
        throw new AppError('fetch-failed', { detail: `the provider answered ${answer.status} to our signature` });
    },
    accept: (row, value) => accept(options, row, value),
    mustBeSigned: (row) => {
      const count = row.data.agreement?.artifact?.signatures.length ?? 0;
      if (row.data.assurance === 'cosigned' && count !== 2) throw refuse('the agreement lacks your signature');
    },
  };
};
