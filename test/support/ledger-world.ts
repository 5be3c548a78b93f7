import { toBase64, toBase64Url, utf8 } from '../../contracts/bytes.ts';
import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import {
  type AgreementPayload,
  type Assurance,
  agreementDigestOf,
  agreementText,
} from '../../contracts/ledger/agreement.ts';
import { buildEntry, entryText, type LogEntry, leafKeyId } from '../../contracts/ledger/entry.ts';
import {
  assembleJws,
  encodeProtected,
  type GeneralJws,
  type JwsType,
  jwsText,
  signingInput,
} from '../../contracts/ledger/jws.ts';
import { buildVerifierKey, checkpointText, readVerifierKey, signatureLine } from '../../contracts/ledger/note.ts';
import { type KeyEvent, publicText } from '../../contracts/ledger/public-entries.ts';
import type { EvmAnchor, PackedReceipts, Receipt, TrustFile } from '../../contracts/ledger/receipt.ts';
import {
  contextDigest,
  contextSalt,
  recordLeaf,
  recordSalt,
  requestTarget,
  type UsageContext,
  type UsageRecord,
} from '../../contracts/ledger/record.ts';
import {
  type StatementSums,
  statementText,
  sumsDigest,
  type UsageStatement,
} from '../../contracts/ledger/statement.ts';
import { consistencyProof, inclusionPath, leafHash, rootOf, subtreesOf } from '../../contracts/ledger/tree.ts';
import { formatTime } from '../../contracts/time.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { ed25519FromByte, p256FromByte, signDer, signEd25519, type TestKey } from './keys.ts';

/** A small world of two parties and a log, made from seeds, in which every artifact is real. */

export const providerDid = 'did:web:provider.example' as Did;
export const consumerDid = 'did:web:consumer.example' as Did;
export const origin = 'broker.example/log/2026';
export const keys = {
  provider: ed25519FromByte(3),
  consumer: ed25519FromByte(4),
  log: ed25519FromByte(1),
  registry: p256FromByte(11),
};
const start = 1_795_431_600_000;
const secret = new Uint8Array(32).fill(9);

export interface Leaf {
  readonly artifact: GeneralJws | { readonly [key: string]: Json };
  readonly bytes: Uint8Array;
  readonly entry: LogEntry;
}

export const signAs = (payload: string, typ: JwsType, signers: readonly (readonly [string, TestKey])[]): GeneralJws =>
  assembleJws(
    payload,
    signers.map(([kid, key]) => {
      const header = encodeProtected(kid, typ);
      return { protected: header, signature: signEd25519(key, signingInput(header, payload)) };
    }),
  );

const entryFor = (bytes: Uint8Array, key: TestKey): LogEntry =>
  buildEntry({ digest: nodeCrypto.sha256(bytes), signature: signDer(key, bytes), spki: key.spki });

const leafOf = (artifact: GeneralJws, key: TestKey): Leaf => {
  const bytes = utf8(jwsText(artifact));
  return { artifact, bytes, entry: entryFor(bytes, key) };
};

/** A key event as it stands in the log, signed by `signer`. */
export const keyEventLeaf = (event: KeyEvent, signer: { readonly kid: string; readonly key: TestKey }): Leaf =>
  leafOf(signAs(publicText(event), 'stekker-key-event+jws', [[signer.kid, signer.key]]), keys.registry);

/** A public artifact without a JWS, such as `key-effective`. */
export const plainLeaf = (artifact: Parameters<typeof publicText>[0]): Leaf => {
  const bytes = utf8(publicText(artifact));
  return { artifact: artifact as { readonly [key: string]: Json }, bytes, entry: entryFor(bytes, keys.registry) };
};

export const introduce = (did: Did, key: TestKey, changes: Partial<KeyEvent> = {}): Leaf =>
  keyEventLeaf(
    {
      v: 1,
      type: 'key-event',
      did,
      event: 'introduce',
      seq: '1',
      prev: null,
      document: null,
      at: formatTime(start - 7_200_000),
      keys: [{ kid: `${did}#s`, use: ['assertionMethod'], spki: toBase64(key.spki) }],
      ...changes,
    },
    { kid: `${did}#s`, key },
  );

export interface World {
  readonly receipt: Receipt;
  readonly packed: PackedReceipts;
  readonly trust: TrustFile;
  readonly agreementDigest: string;
  /** A later checkpoint of the same log, signed by this key, and the proof that it extends the receipt's. */
  readonly grow: (count: number, key?: TestKey, name?: string) => { checkpoint: string; consistency: string[] };
}

interface WorldOptions {
  readonly records?: number;
  readonly assurance?: Assurance;
  readonly anchors?: readonly EvmAnchor[];
  /** Key leaves that come before agreement and statement in the log. */
  readonly keyLeaves?: readonly Leaf[];
  /** Key leaves that come behind agreement and statement. */
  readonly lateLeaves?: readonly Leaf[];
  readonly signers?: { readonly provider: TestKey; readonly consumer: TestKey };
  /** What the statement says otherwise; signed all the same. */
  readonly statement?: Partial<UsageStatement>;
}

const agreementOf = (assurance: Assurance): AgreementPayload => ({
  v: 1,
  type: 'agreement',
  agreement: {
    '@type': 'Agreement',
    '@id': 'urn:uuid:01a207d9-2100-7000-8000-0000000000aa',
    target: 'urn:asset:rain',
    assigner: providerDid,
    assignee: consumerDid,
    timestamp: formatTime(start - 3_600_000),
    permission: [{ action: 'use' }],
  },
  providerPid: 'urn:uuid:01a207d7-9a60-7000-8000-000000000011',
  consumerPid: 'urn:uuid:01a207d7-9a60-7000-8000-000000000022',
  provider: providerDid,
  consumer: consumerDid,
  offers: [toBase64Url(new Uint8Array(32).fill(1))],
  price: '',
  assurance,
  leafKey: leafKeyId(nodeCrypto, p256FromByte(5).spki),
  salt: toBase64Url(new Uint8Array(32).fill(7)),
});

const requestIdOf = (n: number): string => `01a20810-0f6c-7000-8000-${n.toString(16).padStart(12, '0')}`;

const recordOf = (n: number): { readonly record: UsageRecord; readonly context: UsageContext } => {
  const context: UsageContext = {
    application: 'urn:stekker:1:app:evacuatie@1.0.0',
    method: 'GET',
    purpose: 'urn:stekker:1:purpose:crisis',
    run: '',
    salt: contextSalt(nodeCrypto, secret, BigInt(n)),
    target: requestTarget(nodeCrypto, { method: 'GET', target: '/rain', range: '' }),
    transfer: 'urn:uuid:01a20806-e7c0-7000-8000-000000000033',
  };
  const record: UsageRecord = {
    v: 1,
    type: 'usage-record',
    agreement: 'urn:uuid:01a207d9-2100-7000-8000-0000000000aa',
    asset: 'urn:asset:rain',
    op: 'read',
    n: String(n),
    request: requestIdOf(n),
    part: '1',
    at: formatTime(start),
    bytes: '3',
    digest: toBase64Url(nodeCrypto.sha256(utf8('abc'))),
    outcome: 'ok',
    status: '200',
    context: contextDigest(nodeCrypto, context),
    price: '',
    units: { bytes: '3', requests: '1' },
    ext: '',
    salt: recordSalt(nodeCrypto, secret, BigInt(n)),
  };
  return { record, context };
};

/** Builds the world: keys introduced, an agreement, a statement over `records` accesses, a checkpoint, receipts, a trust file. */
export const buildWorld = (options: WorldOptions = {}): World => {
  const count = options.records ?? 3;
  const assurance = options.assurance ?? 'cosigned';
  const signers = options.signers ?? keys;
  const both = [
    [`${providerDid}#s`, signers.provider],
    [`${consumerDid}#s`, signers.consumer],
  ] as const;
  const roles = assurance === 'cosigned' ? both : both.slice(0, 1);
  const agreement = agreementOf(assurance);
  const agreementLeaf = leafOf(signAs(agreementText(agreement), 'stekker-agreement+jws', roles), p256FromByte(5));
  const agreementDigest = agreementDigestOf(nodeCrypto, agreementText(agreement));
  const accesses = Array.from({ length: count }, (_, index) => recordOf(index + 1));
  const leaves = accesses.map(({ record }) => recordLeaf(nodeCrypto, record));
  const sums: StatementSums = {
    amount: { currency: '', scale: '0', value: '0' },
    salt: toBase64Url(new Uint8Array(32).fill(8)),
    totals: { bytes: String(3 * count), requests: String(count) },
  };
  const statement: UsageStatement = {
    v: 1,
    type: 'usage-statement',
    agreement: agreement.agreement['@id'],
    agreementDigest,
    provider: providerDid,
    consumer: consumerDid,
    seq: '1',
    from: formatTime(start - 3_600_000),
    to: formatTime(start + 300_000),
    first: '1',
    last: String(count),
    root: toBase64Url(rootOf(nodeCrypto, leaves)),
    sums: sumsDigest(nodeCrypto, sums),
    price: '',
    prev: null,
    final: false,
    ext: '',
    leafKey: leafKeyId(nodeCrypto, p256FromByte(6).spki),
    salt: toBase64Url(new Uint8Array(32).fill(10)),
    ...options.statement,
  };
  const statementLeaf = leafOf(signAs(statementText(statement), 'stekker-usage-statement+jws', roles), p256FromByte(6));
  const keyLeaves = options.keyLeaves ?? [introduce(providerDid, keys.provider), introduce(consumerDid, keys.consumer)];
  const genesisEntry = entryFor(utf8('genesis'), keys.registry);
  const late = options.lateLeaves ?? [];
  const entries = [genesisEntry, ...[...keyLeaves, agreementLeaf, statementLeaf, ...late].map((leaf) => leaf.entry)];
  const hashes = entries.map((entry) => leafHash(nodeCrypto, utf8(entryText(entry))));
  const subtree = subtreesOf(nodeCrypto, hashes);
  const place = (index: number) => ({
    index: String(index),
    path: inclusionPath(subtree, index, hashes.length).map(toBase64Url),
  });
  const vkey = buildVerifierKey(nodeCrypto, origin, keys.log.spki.subarray(12));
  const log = readVerifierKey(nodeCrypto, vkey);
  if (!log.ok) throw new Error(log.reason);
  const noteOf = (all: readonly Uint8Array[], key = keys.log, name = origin): string => {
    const text = checkpointText({ origin: name, size: all.length, root: rootOf(nodeCrypto, all) });
    return `${text}\n${signatureLine(origin, log.value.keyId, signEd25519(key, utf8(text)))}`;
  };
  const at = keyLeaves.length + 1;
  const publicLeaves = [
    ...keyLeaves.map((leaf, index) => ({ leaf, index: index + 1 })),
    ...late.map((leaf, index) => ({ leaf, index: at + 2 + index })),
  ];
  const shared = {
    v: 1 as const,
    agreement: { artifact: agreementLeaf.artifact as GeneralJws, entry: agreementLeaf.entry, proof: place(at) },
    statement: { artifact: statementLeaf.artifact as GeneralJws, entry: statementLeaf.entry, proof: place(at + 1) },
    keys: publicLeaves.map(({ leaf, index }) => ({
      artifact: leaf.artifact as { [key: string]: Json },
      entry: leaf.entry,
      proof: place(index),
    })) as Receipt['keys'],
    sums,
    checkpoint: noteOf(hashes),
    anchors: [...(options.anchors ?? [])],
  };
  const records = subtreesOf(nodeCrypto, leaves);
  const items = accesses.map(({ record, context }, index) => ({
    record,
    context,
    path: inclusionPath(records, index, count).map(toBase64Url),
  }));
  const [first] = items;
  if (first === undefined) throw new Error('a world needs a record');
  return {
    receipt: { ...shared, type: 'receipt', record: first.record, context: first.context, recordPath: first.path },
    packed: { ...shared, type: 'receipts', records: items },
    trust: {
      v: 1,
      type: 'trust',
      chains: [],
      logs: [{ vkey, registryKey: toBase64(keys.registry.spki), policy: `log ${vkey}\nquorum none\n` }],
    },
    agreementDigest,
    grow: (count, key, name) => {
      const all = [...hashes, ...Array.from({ length: count }, (_, n) => leafHash(nodeCrypto, utf8(`more ${n}`)))];
      const proof = consistencyProof(subtreesOf(nodeCrypto, all), hashes.length, all.length);
      return { checkpoint: noteOf(all, key, name), consistency: proof.map(toBase64Url) };
    },
  };
};
