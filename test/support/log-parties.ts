import { toBase64, toBase64Url, utf8 } from '../../contracts/bytes.ts';
import {
  type AgreementPayload,
  agreementDigestOf,
  agreementEventText,
  agreementText,
} from '../../contracts/ledger/agreement.ts';
import { leafKeyId } from '../../contracts/ledger/entry.ts';
import { type GeneralJws, jwsText } from '../../contracts/ledger/jws.ts';
import { type KeyEvent, publicText } from '../../contracts/ledger/public-entries.ts';
import { contextDigest, type UsageContext, type UsageRecord } from '../../contracts/ledger/record.ts';
import {
  type StatementSums,
  statementDigest,
  statementText,
  sumsDigest,
  type UsageStatement,
} from '../../contracts/ledger/statement.ts';
import { emptyRoot } from '../../contracts/ledger/tree.ts';
import { formatTime } from '../../contracts/time.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { ed25519FromByte, p256FromByte, signDer, type TestKey } from './keys.ts';
import { consumerDid, keys, providerDid, signAs } from './ledger-world.ts';

/** What two parties send to a log: real artifacts from seeds, each with a leaf key of its own. */

export const logStart = 1_795_431_600_000;
const hash = (text: string): string => toBase64Url(nodeCrypto.sha256(utf8(text)));

export interface Signer {
  readonly did: string;
  readonly kid: string;
  readonly key: TestKey;
}

export const provider: Signer = { did: providerDid, kid: `${providerDid}#s`, key: keys.provider };
export const consumer: Signer = { did: consumerDid, kid: `${consumerDid}#s`, key: keys.consumer };
export const stranger: Signer = {
  did: 'did:web:stranger.example',
  kid: 'did:web:stranger.example#s',
  key: ed25519FromByte(33),
};

const pairs = (signers: readonly Signer[]) => signers.map(({ kid, key }) => [kid, key] as const);

/** `{kind, artifact, leafSignature, spki}` of wire §6, signed by the leaf key. */
const bodyOf = (kind: string, artifact: GeneralJws, leaf: TestKey) => ({
  kind,
  artifact,
  leafSignature: toBase64(signDer(leaf, utf8(jwsText(artifact)))),
  spki: toBase64(leaf.spki),
});

const agreementLeaf = p256FromByte(5);
const statementLeaf = p256FromByte(6);

interface AgreementOptions {
  readonly name?: string;
  readonly changes?: Partial<AgreementPayload>;
  readonly signers?: readonly Signer[];
  readonly leaf?: TestKey;
}

export interface MadeAgreement {
  readonly body: ReturnType<typeof bodyOf>;
  readonly payload: AgreementPayload;
  readonly digest: string;
}

/** An agreement between provider and consumer; each name is another one. */
export const agreementBody = (options: AgreementOptions = {}): MadeAgreement => {
  const { name = 'one', changes = {}, leaf = agreementLeaf } = options;
  const payload: AgreementPayload = {
    v: 1,
    type: 'agreement',
    agreement: {
      '@type': 'Agreement',
      '@id': `urn:agreement:${name}`,
      target: 'urn:asset:rain',
      assigner: provider.did,
      assignee: consumer.did,
      timestamp: formatTime(logStart - 3_600_000),
    } as AgreementPayload['agreement'],
    providerPid: `urn:uuid:provider-${name}`,
    consumerPid: `urn:uuid:consumer-${name}`,
    provider: provider.did as AgreementPayload['provider'],
    consumer: consumer.did as AgreementPayload['consumer'],
    offers: [hash('offer')],
    price: '',
    assurance: 'cosigned',
    leafKey: leafKeyId(nodeCrypto, agreementLeaf.spki),
    salt: hash(`salt ${name}`),
    ...changes,
  };
  const text = agreementText(payload);
  const defaults = payload.assurance === 'cosigned' ? [provider, consumer] : [provider];
  const artifact = signAs(text, 'stekker-agreement+jws', pairs(options.signers ?? defaults));
  return { body: bodyOf('agreement', artifact, leaf), payload, digest: agreementDigestOf(nodeCrypto, text) };
};

interface StatementOptions {
  readonly agreement: MadeAgreement;
  readonly after?: MadeStatement;
  readonly changes?: Partial<UsageStatement>;
  readonly sums?: Partial<StatementSums>;
  readonly signers?: readonly Signer[];
  readonly leaf?: TestKey;
}

export interface MadeStatement {
  readonly body: ReturnType<typeof bodyOf> & { readonly sums: StatementSums };
  readonly payload: UsageStatement;
  readonly digest: string;
}

/** The statement behind another, or the first, of an agreement: one access each. */
export const statementBody = (options: StatementOptions): MadeStatement => {
  const { agreement, after, leaf = statementLeaf } = options;
  const seq = after === undefined ? 1 : Number(after.payload.seq) + 1;
  const sums: StatementSums = {
    amount: { currency: '', scale: '0', value: '0' },
    salt: hash(`sums ${seq}`),
    totals: { requests: String(seq) },
    ...options.sums,
  };
  const payload: UsageStatement = {
    v: 1,
    type: 'usage-statement',
    agreement: agreement.payload.agreement['@id'],
    agreementDigest: agreement.digest,
    provider: agreement.payload.provider,
    consumer: agreement.payload.consumer,
    seq: String(seq),
    from: after === undefined ? agreement.payload.agreement.timestamp : after.payload.to,
    to: formatTime(logStart - 3_600_000 + seq * 1_000),
    first: after === undefined ? '1' : String(Number(after.payload.last) + 1),
    last: String(seq),
    root: toBase64Url(emptyRoot(nodeCrypto)),
    sums: sumsDigest(nodeCrypto, sums),
    price: agreement.payload.price,
    prev: after === undefined ? null : after.digest,
    final: false,
    ext: '',
    leafKey: leafKeyId(nodeCrypto, statementLeaf.spki),
    salt: hash(`statement ${seq}`),
    ...options.changes,
  };
  const text = statementText(payload);
  const defaults = agreement.payload.assurance === 'cosigned' ? [provider, consumer] : [provider];
  const artifact = signAs(text, 'stekker-usage-statement+jws', pairs(options.signers ?? defaults));
  return {
    body: { ...bodyOf('usage-statement', artifact, leaf), sums },
    payload,
    digest: statementDigest(nodeCrypto, text),
  };
};

interface EventOptions {
  readonly agreementDigest: string;
  readonly event: 'void' | 'end';
  readonly signers: readonly Signer[];
}

export const agreementEventBody = ({ agreementDigest, event, signers }: EventOptions) => {
  const text = agreementEventText({
    v: 1,
    type: 'agreement-event',
    agreementDigest,
    event,
    effectiveAt: formatTime(logStart),
    reason: 'a test',
    leafKey: leafKeyId(nodeCrypto, agreementLeaf.spki),
    salt: hash(`event ${event}`),
  });
  const artifact = signAs(text, 'stekker-agreement-event+jws', pairs(signers));
  return bodyOf('agreement-event', artifact, agreementLeaf);
};

/** The DID document that a party serves, as text. */
export const documentOf = ({ did, kid }: Signer): string =>
  JSON.stringify({ '@context': ['https://www.w3.org/ns/did/v1'], id: did, assertionMethod: [kid] });

interface KeyEventOptions {
  readonly of: Signer;
  readonly by?: Signer;
  readonly changes?: Partial<KeyEvent>;
  readonly joinCode?: string;
}

export interface MadeKeyEvent {
  readonly body: { readonly kind: string; readonly artifact: GeneralJws; readonly joinCode?: string };
  readonly payload: KeyEvent;
  readonly hash: string;
}

/** A key event; by default the first one of a party, signed by the key it introduces. */
export const keyEventBody = ({ of, by = of, changes = {}, joinCode }: KeyEventOptions): MadeKeyEvent => {
  const payload: KeyEvent = {
    v: 1,
    type: 'key-event',
    did: of.did as KeyEvent['did'],
    event: 'introduce',
    seq: '1',
    prev: null,
    document: documentOf(of),
    keys: [{ kid: of.kid, use: ['assertionMethod'], spki: toBase64(of.key.spki) }],
    at: formatTime(logStart),
    ...changes,
  };
  const artifact = signAs(publicText(payload), 'stekker-key-event+jws', pairs([by]));
  const body = { kind: 'key-event', artifact, ...(joinCode === undefined ? {} : { joinCode }) };
  return { body, payload, hash: toBase64Url(nodeCrypto.sha256(utf8(jwsText(artifact)))) };
};

const salt = toBase64Url(new Uint8Array(16));

/** The id of the n-th request. */
export const requestOf = (n: number): string => `01a20810-0f6c-7000-8000-${String(n).padStart(12, '0')}`;

/** The n-th access of the agreement `one`. */
export const accessOf = (
  n: number,
  changes: Partial<UsageRecord> = {},
): { record: UsageRecord; context: UsageContext } => {
  const context: UsageContext = {
    application: 'urn:stekker:1:app:evacuatie@1.0.0',
    method: 'GET',
    purpose: 'urn:stekker:1:purpose:crisis',
    run: '',
    salt,
    target: hash('target'),
    transfer: 'urn:uuid:01a20806-e7c0-7000-8000-000000000033',
  };
  const record: UsageRecord = {
    v: 1,
    type: 'usage-record',
    agreement: 'urn:agreement:one',
    asset: 'urn:asset:rain',
    op: 'read',
    n: String(n),
    request: requestOf(n),
    part: '1',
    at: formatTime(logStart),
    bytes: '3',
    digest: hash('abc'),
    outcome: 'ok',
    status: '200',
    context: contextDigest(nodeCrypto, context),
    price: '',
    units: { requests: '1' },
    ext: '',
    salt,
    ...changes,
  };
  return { record, context };
};
