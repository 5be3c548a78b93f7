import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { ed25519FromByte, p256FromByte, signEd25519 } from '../../test/support/keys.ts';
import { concat, fromBase64, fromHex, toBase64, toBase64Url, toHex, utf8 } from '../bytes.ts';
import { canonicalize } from '../json.ts';
import { agreementDigestOf, agreementText, offerDigest, readAgreement, readAgreementArtifact } from './agreement.ts';
import { buildEntry, checkEntry, entryParts, entryText, leafKeyId, readEntry } from './entry.ts';
import { ed25519Spki } from './forms.ts';
import { assembleJws, encodeProtected, type JwsType, jwsText, readJws, signingInput, verifySignature } from './jws.ts';
import {
  buildVerifierKey,
  checkpointText,
  cosignatureBytes,
  cosignatureMessage,
  readPolicy,
  readVerifierKey,
  signatureLine,
  verifyNote,
} from './note.ts';
import { amountOf, pricePlanDigest, pricePlanText, readPricePlan } from './price-plan.ts';
import { promiseKid, verifyPromise } from './promise.ts';
import { publicText, readPublicArtifact } from './public-entries.ts';
import { receipt as receiptForm, receiptText, trustFile, trustText } from './receipt.ts';
import {
  contextDigest,
  contextSalt,
  readRecord,
  recordLeaf,
  recordSalt,
  recordText,
  replayKey,
  requestTarget,
  usageContext,
} from './record.ts';
import {
  readRefusalArtifact,
  readStatement,
  readStatementArtifact,
  refusalText,
  statementDigest,
  statementSums,
  statementText,
  sumsDigest,
} from './statement.ts';
import { inclusionPath, isIncluded, leafHash, rootOf, subtreesOf } from './tree.ts';
import vectors from './vectors.json' with { type: 'json' };

const provider = ed25519FromByte(3);
const consumer = ed25519FromByte(4);
const logKey = ed25519FromByte(1);
const secret = new Uint8Array(32).fill(9);
const digestOf = (text: string) => toBase64Url(nodeCrypto.sha256(utf8(text)));
const must = <Value>(checked: { ok: true; value: Value } | { ok: false; reason: string }): Value => {
  if (!checked.ok) throw new Error(checked.reason);
  return checked.value;
};
const signed = (payload: string, typ: JwsType, signers: readonly (readonly [string, typeof provider])[]) =>
  assembleJws(
    payload,
    signers.map(([kid, key]) => {
      const header = encodeProtected(kid, typ);
      return { protected: header, signature: signEd25519(key, signingInput(header, payload)) };
    }),
  );

describe('known answers', () => {
  test('keys', () => {
    expect(toBase64(provider.spki)).toBe(vectors.keys.providerSpki);
    expect(toBase64(consumer.spki)).toBe(vectors.keys.consumerSpki);
    expect(toBase64(p256FromByte(5).spki)).toBe(vectors.keys.leafAgreementSpki);
    expect(toBase64(p256FromByte(6).spki)).toBe(vectors.keys.leafStatementSpki);
  });

  test('price plan and its amount', () => {
    const plan = must(readPricePlan(vectors.pricePlan.jcs));
    expect(pricePlanText(plan)).toBe(vectors.pricePlan.jcs);
    expect(pricePlanDigest(nodeCrypto, plan)).toBe(vectors.pricePlan.digest);
    expect(amountOf(plan, { requests: '3', bytes: '7' })).toEqual({ ok: true, value: 75n });
  });

  test('request target, replay key and offer', () => {
    for (const { tgt, ...request } of vectors.tgt) expect(requestTarget(nodeCrypto, request)).toBe(tgt);
    const proof = JSON.parse(Buffer.from(vectors.dpop.proof.split('.')[1] ?? '', 'base64url').toString('utf8'));
    expect(toHex(replayKey(nodeCrypto, vectors.agreement.agreementDigest, proof.jti))).toBe(vectors.dpop.replayKey);
    expect(digestOf(vectors.dpop.accessToken)).toBe(vectors.dpop.ath);
    expect(offerDigest(nodeCrypto, JSON.parse(vectors.offer.jcs))).toBe(vectors.offer.digest);
  });

  test('agreement: payload, digest, both signatures, entry', () => {
    const payload = must(readAgreement(vectors.agreement.payload));
    expect(agreementText(payload)).toBe(vectors.agreement.payload);
    expect(agreementDigestOf(nodeCrypto, vectors.agreement.payload)).toBe(vectors.agreement.agreementDigest);
    const artifact = signed(vectors.agreement.payload, 'stekker-agreement+jws', [
      ['did:web:provider.example#s', provider],
      ['did:web:consumer.example#s', consumer],
    ]);
    expect(jwsText(artifact)).toBe(vectors.agreement.artifact);
    expect(digestOf(vectors.agreement.artifact)).toBe(vectors.agreement.artifactSha256);
    expect(must(readAgreementArtifact(artifact)).value.price).toBe(vectors.pricePlan.digest);
    expect(payload.leafKey).toBe(leafKeyId(nodeCrypto, p256FromByte(5).spki));
  });

  test('records, contexts, salts, paths', () => {
    const leaves = vectors.records.map(({ record }) => recordLeaf(nodeCrypto, must(readRecord(record))));
    const subtree = subtreesOf(nodeCrypto, leaves);
    for (const [index, vector] of vectors.records.entries()) {
      const record = must(readRecord(vector.record));
      const context = usageContext.parse(JSON.parse(vector.context));
      expect(recordText(record)).toBe(vector.record);
      expect(utf8(vector.record).length).toBe(vector.length);
      expect(toHex(leaves[index] ?? new Uint8Array(0))).toBe(vector.leaf);
      expect(contextDigest(nodeCrypto, context)).toBe(record.context);
      expect(recordSalt(nodeCrypto, secret, BigInt(record.n))).toBe(record.salt);
      expect(contextSalt(nodeCrypto, secret, BigInt(record.n))).toBe(context.salt);
      expect(inclusionPath(subtree, index, 3).map(toHex)).toEqual(vector.path);
    }
    expect(toHex(rootOf(nodeCrypto, leaves))).toBe(vectors.recordsRoot);
  });

  test('statement and sums', () => {
    const sums = statementSums.parse(JSON.parse(vectors.sums.jcs));
    expect(sumsDigest(nodeCrypto, sums)).toBe(vectors.sums.digest);
    const statement = must(readStatement(vectors.statement.payload));
    expect(statementText(statement)).toBe(vectors.statement.payload);
    expect(statement.sums).toBe(vectors.sums.digest);
    expect(statementDigest(nodeCrypto, vectors.statement.payload)).toBe(vectors.statement.digest);
    const artifact = signed(vectors.statement.payload, 'stekker-usage-statement+jws', [
      ['did:web:provider.example#s', provider],
      ['did:web:consumer.example#s', consumer],
    ]);
    expect(jwsText(artifact)).toBe(vectors.statement.artifact);
    expect(digestOf(vectors.statement.artifact)).toBe(vectors.statement.artifactSha256);
    const read = must(readStatementArtifact(JSON.parse(vectors.statement.artifact)));
    const keys = [provider, consumer];
    expect(
      read.signatures.map((one, index) => verifySignature(nodeCrypto, one, keys[index]?.spki ?? one.signature)),
    ).toEqual([true, true]);
  });

  test('entries commit to their artifacts', () => {
    const entries = [
      [vectors.agreement.entry, vectors.agreement.artifact, vectors.agreement.entryLeaf],
      [vectors.statement.entry, vectors.statement.artifact, vectors.statement.entryLeaf],
      [vectors.genesis.entry, vectors.genesis.artifact, vectors.genesis.entryLeaf],
      ...vectors.keyEvents.map(({ entry, artifact, entryLeaf }) => [entry, artifact, entryLeaf]),
    ] as const;
    expect(entries).toHaveLength(5);
    for (const [text = '', artifact = '', leaf = ''] of entries) {
      const entry = must(readEntry(text));
      expect(checkEntry(nodeCrypto, entry, utf8(artifact)).ok).toBe(true);
      expect(entryText(buildEntry(entryParts(entry)))).toBe(text);
      expect(toHex(leafHash(nodeCrypto, utf8(text)))).toBe(leaf);
    }
  });

  test('genesis and key events', () => {
    expect(must(readPublicArtifact(JSON.parse(vectors.genesis.artifact))).kind).toBe('genesis');
    expect(vectors.genesis.path).toBe(`artifact/${toHex(nodeCrypto.sha256(utf8(vectors.genesis.artifact)))}`);
    for (const event of vectors.keyEvents) {
      const read = must(readPublicArtifact(JSON.parse(event.artifact)));
      expect(read.kind).toBe('key-event');
      expect(publicText(JSON.parse(event.payload))).toBe(event.payload);
      expect(event.path).toBe(`artifact/${toHex(nodeCrypto.sha256(read.bytes))}`);
    }
  });

  test('log, checkpoint and proofs', () => {
    const entries = [
      vectors.genesis.entryLeaf,
      ...vectors.keyEvents.map((event) => event.entryLeaf),
      vectors.agreement.entryLeaf,
      vectors.statement.entryLeaf,
    ];
    const leaves = entries.map((leaf) => fromHex(leaf) ?? new Uint8Array(0));
    const root = rootOf(nodeCrypto, leaves);
    expect(toHex(root)).toBe(vectors.log.root);
    const subtree = subtreesOf(nodeCrypto, leaves);
    for (const proof of vectors.log.proofs) {
      const index = Number(proof.index);
      const path = inclusionPath(subtree, index, 5);
      expect(path.map(toBase64Url)).toEqual(proof.path);
      expect(isIncluded(nodeCrypto, leaves[index] ?? root, { index, size: 5, path, root })).toBe(true);
    }
    const trust = trustFile.parse(JSON.parse(vectors.trust.jcs));
    const policy = must(readPolicy(nodeCrypto, trust.logs[0]?.policy ?? ''));
    expect(must(verifyNote(nodeCrypto, vectors.log.checkpoint, policy)).size).toBe(5);
    const text = checkpointText({ origin: 'broker.example/log/2026', size: 5, root });
    const line = signatureLine('broker.example/log/2026', policy.log.keyId, signEd25519(logKey, utf8(text)));
    expect(`${text}\n${line}`).toBe(vectors.log.checkpoint);
    expect(digestOf(vectors.log.checkpoint)).toBe(
      toBase64Url(fromHex(vectors.log.checkpointSha256) ?? new Uint8Array(0)),
    );
  });

  test('the checkpoint with a witness of ledger §6', () => {
    const witness = ed25519FromByte(2);
    const logVkey = buildVerifierKey(nodeCrypto, 'broker.example/log/2026', logKey.spki.subarray(12));
    const witnessVkey = buildVerifierKey(nodeCrypto, 'witness.example/w1', witness.spki.subarray(12), 'witness');
    expect(logVkey).toBe('broker.example/log/2026+df9a09f1+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c');
    expect(witnessVkey).toBe('witness.example/w1+df1c0a35+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU');
    const root = fromHex('36642e73c2540ab121e3a6bf9545b0a24982cd830eb13d3cd19de3ce6c021ec1') ?? new Uint8Array(0);
    const text = checkpointText({ origin: 'broker.example/log/2026', size: 3, root });
    const time = 1_795_000_000n;
    const log = must(readVerifierKey(nodeCrypto, logVkey));
    const its = must(readVerifierKey(nodeCrypto, witnessVkey));
    const cosigned = cosignatureBytes(time, signEd25519(witness, cosignatureMessage(text, time)));
    const note = `${text}\n${signatureLine(log.name, log.keyId, signEd25519(logKey, utf8(text)))}${signatureLine(its.name, its.keyId, cosigned)}`;
    expect(utf8(note).length).toBe(321);
    expect(toHex(nodeCrypto.sha256(utf8(note)))).toBe(
      '852771127bd3cfa9bb23cd5cad86b4964271d5f684228d131b05be7139b05e0d',
    );
    const policy = must(readPolicy(nodeCrypto, `log ${logVkey}\nwitness w1 ${witnessVkey}\nquorum w1\n`));
    expect(verifyNote(nodeCrypto, note, policy).ok).toBe(true);
  });

  test('promise and refusal', () => {
    const log = must(
      readVerifierKey(nodeCrypto, buildVerifierKey(nodeCrypto, 'broker.example/log/2026', logKey.spki.subarray(12))),
    );
    const promise = must(verifyPromise(nodeCrypto, JSON.parse(vectors.promise.jws), log));
    expect(promise.index).toBe('4');
    expect(jwsText(signed(vectors.promise.payload, 'stekker-log-promise+jws', [[promiseKid(log), logKey]]))).toBe(
      vectors.promise.jws,
    );
    const refusal = must(readRefusalArtifact(JSON.parse(vectors.refusal.jws)));
    expect(refusalText(refusal.value)).toBe(vectors.refusal.payload);
    expect(
      jwsText(
        signed(vectors.refusal.payload, 'stekker-statement-refusal+jws', [['did:web:consumer.example#s', consumer]]),
      ),
    ).toBe(vectors.refusal.jws);
  });

  test('receipt and trust file', () => {
    expect(receiptText(receiptForm.parse(JSON.parse(vectors.receipt.jcs)))).toBe(vectors.receipt.jcs);
    expect(utf8(vectors.receipt.jcs).length).toBe(vectors.receipt.length);
    expect(digestOf(vectors.receipt.jcs)).toBe(vectors.receipt.sha256);
    expect(trustText(trustFile.parse(JSON.parse(vectors.trust.jcs)))).toBe(vectors.trust.jcs);
    expect(digestOf(vectors.trust.jcs)).toBe(vectors.trust.sha256);
  });

  test('helpers of this page agree with each other', () => {
    expect(canonicalize(JSON.parse(vectors.agreement.payload))).toBe(vectors.agreement.payload);
    expect(toHex(concat(ed25519Spki(provider.spki.subarray(12))))).toBe(
      toHex(fromBase64(vectors.keys.providerSpki) ?? new Uint8Array(0)),
    );
    expect(readJws(JSON.parse(vectors.agreement.artifact), 'stekker-usage-statement+jws').ok).toBe(false);
  });
});
