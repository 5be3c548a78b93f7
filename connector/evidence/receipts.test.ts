import { describe, expect, test } from 'vitest';
import { verifyAnchor } from '../../contracts/anchor/proof.ts';
import { orNothing, toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { canonicalize, type Json } from '../../contracts/json.ts';
import { checkpointText, readNote, readVerifierKey, signatureLine } from '../../contracts/ledger/note.ts';
import { type PackedReceipts, type Receipt, receiptText, type TrustFile } from '../../contracts/ledger/receipt.ts';
import { recordLeaf } from '../../contracts/ledger/record.ts';
import { rootOf } from '../../contracts/ledger/tree.ts';
import { type VerifyTools, verifyReceipt } from '../../contracts/ledger/verify.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { anchorTopics, encodeReceipt, makeAnchor, trustIn } from '../../test/support/anchors.ts';
import { changed, expectedSteps, partOf, placesIn, replaceAt } from '../../test/support/changed-receipts.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import {
  registrationOf,
  startConnector,
  startTestBroker,
  statedFrom,
  submissionOf,
  type TestBroker,
  type TestConnector,
} from '../../test/support/evidence-world.ts';
import { signEd25519 } from '../../test/support/keys.ts';
import { keys, origin } from '../../test/support/ledger-world.ts';
import { joinAll, logKeys, published, shiftedClock } from '../../test/support/log-bench.ts';
import {
  accessOf,
  agreementBody,
  consumer,
  logStart,
  type MadeStatement,
  provider,
  requestOf,
  statementBody,
  stranger,
} from '../../test/support/log-parties.ts';
import type { StatedInterval } from './ports.ts';
import { createReceiptFiles } from './receipt-files.ts';
import type { ReceiptOptions } from './receipts.ts';

/** The second look at a log comes soon; an hour stays an hour. */
const clock: Clock = {
  now: shiftedClock(logStart).now,
  sleep: (ms, signal) => systemClock.sleep(ms > 10_000 ? ms : Math.min(ms, 20), signal),
};
const agreement = agreementBody();

interface Stated {
  readonly made: MadeStatement;
  readonly interval: StatedInterval;
}

/** A statement that both signed, over these accesses. */
const stateAfter = (accesses: StatedInterval['accesses'], after?: MadeStatement): Stated => {
  const first = after === undefined ? 1 : Number(after.payload.last) + 1;
  const leaves = accesses.map(({ record }) => recordLeaf(nodeCrypto, record));
  const made = statementBody({
    agreement,
    ...(after === undefined ? {} : { after }),
    sums: { totals: { requests: String(first + accesses.length - 1) } },
    changes: { root: toBase64Url(rootOf(nodeCrypto, leaves)), last: String(first + accesses.length - 1) },
  });
  const { artifact, sums } = made.body;
  return { made, interval: { agreementDigest: agreement.digest, seq: made.payload.seq, artifact, sums, accesses } };
};

const one = stateAfter([1, 2, 3].map((n) => accessOf(n)));
const two = stateAfter([accessOf(4), accessOf(5, { request: requestOf(4), part: '2' }), accessOf(6)], one.made);

const trust = (chains: TrustFile['chains'] = []): TrustFile => ({
  v: 1,
  type: 'trust',
  chains: [...chains],
  logs: [
    {
      vkey: logKeys.vkey,
      registryKey: Buffer.from(logKeys.registryKey).toString('base64'),
      policy: `log ${logKeys.vkey}\nquorum none\n`,
    },
  ],
});
const tools: VerifyTools = {
  crypto: nodeCrypto,
  verifyAnchor: (anchor, checkpoint, chains) =>
    verifyAnchor({ keccak256, sha256: nodeCrypto.sha256 }, anchor, checkpoint, chains),
};
const verify = (file: Receipt | PackedReceipts, its = trust()) => verifyReceipt(tools, its, receiptText(file));

interface World extends AsyncDisposable {
  readonly broker: TestBroker;
  readonly connector: TestConnector;
}

const world = async (
  intervals: readonly StatedInterval[] = [one.interval, two.interval],
  open: readonly string[] = [],
): Promise<World> => {
  const broker = await startTestBroker(clock);
  await joinAll(broker.ledger);
  const stated = statedFrom(intervals, open);
  const connector = await startConnector(broker, { did: provider.did, clock, stated });
  return {
    broker,
    connector,
    [Symbol.asyncDispose]: async () => {
      await connector[Symbol.asyncDispose]();
      await broker[Symbol.asyncDispose]();
    },
  };
};

/** Registers the agreement and these statements, and waits until a checkpoint covers them. */
const registerAll = async ({ broker, connector }: World, ...statements: readonly Stated[]): Promise<void> => {
  await connector.evidence.registrar.submit(submissionOf(agreement.body));
  for (const { made } of statements) await connector.evidence.registrar.submit(submissionOf(made.body));
  for (const { made } of statements)
    await eventually(
      () => registrationOf(connector, agreement.digest, 'usage-statement', made.payload.seq),
      (found) => found?.outcome.state === 'registered',
    );
  await published(broker.bench, 4 + statements.length);
};

const receiptFor = ({ connector }: World, request: string, options?: ReceiptOptions) =>
  connector.evidence.receipts.ofRequest(connector.participant, request, options);

/** The newest checkpoint as an anchor has it, in a block that `trustIn(blockHash)` vouches for. */
const anchorNewest = async (broker: TestBroker) => {
  const checkpoint = broker.ledger.checkpoint ?? '';
  const note = readNote(checkpoint);
  if (!note.ok) throw new Error(note.reason);
  const receipt = encodeReceipt({ topics: anchorTopics(note.value.checkpoint) });
  const { anchor, blockHash } = await makeAnchor([encodeReceipt({}), receipt], 1);
  return { checkpoint, anchor, blockHash, size: note.value.checkpoint.size };
};

describe('the receipt of a request', () => {
  test('verifies offline, and is untrusted for a reader who does not know the log', async () => {
    await using its = await world();
    await registerAll(its, one);
    const receipt = await receiptFor(its, requestOf(2));
    expect(receipt).toMatchObject({ type: 'receipt', record: { n: '2' }, anchors: [] });
    const verdict = verify(receipt);
    expect(verdict.steps.filter(({ state }) => state === 'failed')).toEqual([]);
    expect(verdict.code).toBe(0);
    expect(verify(receipt, { ...trust(), logs: [] }).code).toBe(3);
  });

  test('is anchored: its proofs lead to the anchored checkpoint, not to the newest', async () => {
    await using its = await world();
    await registerAll(its, one);
    const { checkpoint, anchor, blockHash, size } = await anchorNewest(its.broker);
    await joinAll(its.broker.ledger, [stranger]);
    await published(its.broker.bench, size + 1);
    await its.connector.evidence.follower.follow();
    const asked: number[] = [];
    its.broker.anchored = (covers) => {
      asked.push(covers);
      return { checkpoint, anchor } as unknown as Json;
    };
    const receipt = await receiptFor(its, requestOf(1), { needsAnchor: true });
    expect([receipt.checkpoint, receipt.anchors]).toEqual([checkpoint, [anchor]]);
    expect(asked).toEqual([4]);
    const verdict = verify(receipt, trust(trustIn(blockHash)));
    expect([verdict.code, verdict.steps[5]?.state, verdict.facts?.checkpoint.size]).toEqual([0, 'ok', size]);
    expect(verdict.facts?.anchored).toHaveLength(1);
    expect(verify(receipt).steps[5]?.state).toBe('none');
    expect(its.connector.alarms).toEqual([]);
  });

  test('takes a checkpoint that was anchored after our last visit', async () => {
    await using its = await world();
    await registerAll(its, one);
    await eventually(
      () => its.connector.evidence.follower.follow(),
      ({ checkpoint }) => checkpoint.size === 5,
    );
    await joinAll(its.broker.ledger, [stranger]);
    await published(its.broker.bench, 6);
    const { checkpoint, anchor, blockHash } = await anchorNewest(its.broker);
    its.broker.anchored = () => ({ checkpoint, anchor }) as unknown as Json;
    const verdict = verify(await receiptFor(its, requestOf(1)), trust(trustIn(blockHash)));
    expect([verdict.code, verdict.facts?.checkpoint.size, verdict.facts?.anchored.length]).toEqual([0, 6, 1]);
  });

  test('each field of it, changed in turn, is found at the right step', async () => {
    await using its = await world();
    await registerAll(its, one);
    const { checkpoint, anchor, blockHash } = await anchorNewest(its.broker);
    its.broker.anchored = () => ({ checkpoint, anchor }) as unknown as Json;
    const its_ = trust(trustIn(blockHash));
    const receipt = await receiptFor(its, requestOf(2));
    expect(verify(receipt, its_).code).toBe(0);
    const file = JSON.parse(receiptText(receipt)) as Json;
    const places = placesIn(file);
    expect(places.length).toBeGreaterThan(100);
    for (const { path } of places) {
      const verdict = verifyReceipt(tools, its_, canonicalize(replaceAt(file, path, changed)));
      const found = verdict.steps.filter(({ state }) => state === 'failed').map(({ step }) => step);
      const where = path.join('.');
      if (path[0] === 'anchors') {
        expect(verdict.steps.find(({ step }) => step === 6)?.state, where).not.toBe('ok');
        continue;
      }
      expect(verdict.code === 1 || verdict.code === 2, `${where} gives ${verdict.code}`).toBe(true);
      expect(expectedSteps[partOf(path)] ?? [], `${where} was found at ${found}`).toContain(found[0]);
    }
  });

  test('withholds sums or what it was used for', async () => {
    await using its = await world();
    await registerAll(its, one);
    const noSums = await receiptFor(its, requestOf(1), { withholdSums: true });
    const noContext = await receiptFor(its, requestOf(1), { withholdContext: true });
    expect([noSums.sums, verify(noSums).code]).toEqual([null, 4]);
    expect([(noContext as Receipt).context, verify(noContext).code]).toEqual([null, 4]);
    expect(receiptText(noContext)).not.toContain('evacuatie');
  });

  test('that came in parts is packed, when one statement has them all', async () => {
    await using its = await world();
    await registerAll(its, one, two);
    const receipt = await receiptFor(its, requestOf(4));
    expect(receipt.type === 'receipts' && receipt.records.map(({ record }) => record.part)).toEqual(['1', '2']);
    expect(verify(receipt).code).toBe(0);
    const split = stateAfter([accessOf(4, { request: requestOf(1), part: '2' })], one.made);
    await using other = await world([one.interval, split.interval]);
    await expect(receiptFor(other, requestOf(1))).rejects.toMatchObject({ code: 'invalid-request' });
  });
});

describe('a receipt that cannot be had yet', () => {
  const reason = async (work: Promise<unknown>): Promise<string> => {
    try {
      await work;
      return 'made';
    } catch (error) {
      const { code, detail } = error as { code: string; detail?: string };
      return `${code}: ${detail ?? ''}`;
    }
  };

  test('says what is missing, step by step, and does what can be done', async () => {
    await using its = await world([one.interval], [requestOf(9)]);
    const { connector, broker } = its;
    const { registrar } = connector.evidence;
    expect(await reason(receiptFor(its, requestOf(8)))).toContain('not-found');
    expect(await reason(receiptFor(its, requestOf(9)))).toContain('no statement that both signed covers this access');
    expect(await reason(receiptFor(its, requestOf(1)))).toContain('the agreement was not handed over');
    const later = { notBefore: clock.now() + 60_000 };
    await registrar.submit(submissionOf(agreement.body, later));
    await registrar.submit(submissionOf(one.made.body, later));
    expect(await reason(receiptFor(its, requestOf(1)))).toContain('the agreement is not registered in the log yet');
    await eventually(
      () => reason(receiptFor(its, requestOf(1))),
      (said) => said === 'made',
    );
    expect(broker.ledger.size).toBe(5);
  });

  test('says that no checkpoint covers it, or no anchor', async () => {
    await using its = await world();
    const old = await eventually(
      async () => its.broker.ledger.checkpoint,
      (note) => note?.includes('\n3\n') === true,
    );
    its.broker.meddle = async (request, answer) => (request.url.endsWith('/checkpoint') ? new Response(old) : answer());
    await registerAll(its, one);
    expect(await reason(receiptFor(its, requestOf(1)))).toContain('no checkpoint of the log covers entry 4 yet');
    its.broker.meddle = (_request, answer) => answer();
    expect(await reason(receiptFor(its, requestOf(1), { needsAnchor: true }))).toContain(
      'no final anchor covers entry 4',
    );
    its.broker.meddle = async (request, answer) =>
      request.url.includes('/anchors/') ? new Response(null, { status: 500 }) : answer();
    expect(await reason(receiptFor(its, requestOf(1), { needsAnchor: true }))).toContain('no final anchor');
    expect(await reason(receiptFor(its, requestOf(1)))).toBe('made');
    its.broker.meddle = async (request, answer) =>
      request.url.includes('/tile/') ? new Response(null, { status: 404 }) : answer();
    expect(await reason(receiptFor(its, requestOf(1)))).toContain('is not there');
  });

  test('says that the log refused a part of it', async () => {
    const { made, interval } = stateAfter([accessOf(1)]);
    const wrong = { ...made.body, sums: { ...made.body.sums, totals: { requests: '7' } } };
    await using its = await world([interval]);
    await its.connector.evidence.registrar.submit(submissionOf(agreement.body));
    await its.connector.evidence.registrar.submit(submissionOf(wrong));
    await eventually(
      async () => its.connector.alarms.length,
      (count) => count > 0,
    );
    expect(await reason(receiptFor(its, requestOf(1)))).toContain('entry-refused: the log refused statement 1');
  });

  test('is not made of records that are not those of the statement', async () => {
    const wrongRecord = { ...one.interval, accesses: one.interval.accesses.with(1, accessOf(2, { bytes: '4' })) };
    await using its = await world([wrongRecord]);
    await registerAll(its, one);
    expect(await reason(receiptFor(its, requestOf(1)))).toContain('data-damaged');
    const [first = accessOf(1)] = one.interval.accesses;
    const wrongContext = { ...first, context: { ...first.context, purpose: 'urn:purpose:other' } };
    await using other = await world([{ ...one.interval, accesses: one.interval.accesses.with(0, wrongContext) }]);
    await registerAll(other, one);
    expect(await reason(receiptFor(other, requestOf(1)))).toContain(
      'data-damaged: the receipt would not verify: step 1',
    );
  });
});

describe('an anchor that is not believed', () => {
  const logKey = readVerifierKey(nodeCrypto, logKeys.vkey);
  const keyId = orNothing(logKey.ok ? logKey.value.keyId : undefined);

  /** A checkpoint that the true key signed, with a good anchor, over whatever tree. */
  const invented = async (size: number, root: Uint8Array) => {
    const checkpoint = { origin, size, root };
    const text = checkpointText(checkpoint);
    const note = `${text}\n${signatureLine(origin, keyId, signEd25519(keys.log, utf8(text)))}`;
    const { anchor } = await makeAnchor([encodeReceipt({ topics: anchorTopics(checkpoint) })], 0);
    return { checkpoint: note, anchor };
  };

  test.each([
    ['because its checkpoint is of another tree', async () => invented(5, new Uint8Array(32).fill(3)), 'another tree'],
    ['because its checkpoint is ahead of the log', async () => invented(99, new Uint8Array(32)), 'ahead of the log'],
    ['because its checkpoint does not cover the entry', async () => invented(4, new Uint8Array(32)), 'does not cover'],
    [
      'because its proof is about another checkpoint',
      async (broker: TestBroker) => ({
        ...(await invented(5, new Uint8Array(32))),
        checkpoint: broker.ledger.checkpoint ?? '',
      }),
      'its proof is not about its checkpoint',
    ],
    [
      'because the log did not sign its checkpoint',
      async (broker: TestBroker) => {
        const { checkpoint, anchor } = await anchorNewest(broker);
        return { checkpoint: checkpoint.replace('\n5\n', '\n6\n'), anchor };
      },
      'its checkpoint: ',
    ],
    [
      'because it is about a later checkpoint',
      async (broker: TestBroker) => {
        const { checkpoint, anchor } = await anchorNewest(broker);
        return { checkpoint, anchor: { ...anchor, later: { checkpoint, consistency: [] } } };
      },
      'a later checkpoint',
    ],
    ['because it cannot be read', async () => ({ checkpoint: 'x', anchor: {} }), 'cannot be read'],
  ])('%s, raises an alarm, and the receipt goes without', async (_what, make, why) => {
    await using its = await world();
    await registerAll(its, one);
    const answer = await make(its.broker);
    its.broker.anchored = () => answer as unknown as Json;
    const receipt = await receiptFor(its, requestOf(1));
    expect([receipt.anchors, verify(receipt).code]).toEqual([[], 0]);
    expect(its.connector.alarms.map(({ code }) => code)).toEqual(['anchor-not-believed']);
    expect(its.connector.alarms[0]?.detail).toContain(why);
  });
});

describe('the receipts of an agreement', () => {
  const all = async ({ connector }: World, options?: ReceiptOptions) => {
    const found = [];
    for await (const part of connector.evidence.receipts.ofAgreement(connector.participant, agreement.digest, options))
      found.push(part);
    return found;
  };

  test('are packed by statement, verify, and name the statement that is not in the log', async () => {
    await using its = await world();
    await registerAll(its, one);
    const before = await all(its);
    expect(before.map((part) => ('missing' in part ? [part.seq, part.missing.code] : part.seq))).toEqual([
      '1',
      ['2', 'not-yet'],
    ]);
    await registerAll(its, one, two);
    const after = await all(its);
    const codes = after.map((part) => ('receipts' in part ? verify(part.receipts).code : -1));
    expect(codes).toEqual([0, 0]);
    const counts = after.map((part) => ('receipts' in part ? part.receipts.records.length : 0));
    expect(counts).toEqual([3, 3]);
    const closed = await all(its, { withholdSums: true, withholdContext: true });
    expect(closed.map((part) => ('receipts' in part ? verify(part.receipts).code : -1))).toEqual([4, 4]);
  });

  test('come as files by the agreement’s own id, or not yet', async () => {
    await using its = await world();
    await registerAll(its, one);
    const files = createReceiptFiles(its.connector.evidence.receipts, async (_participant, id) =>
      id === 'urn:agreement:one' ? agreement.digest : undefined,
    );
    const open = { context: false, sums: false };
    const { participant } = its.connector;
    await expect(files.packed(participant, 'urn:agreement:one', open)).rejects.toMatchObject({ code: 'not-yet' });
    await expect(files.packed(participant, 'urn:agreement:two', open)).rejects.toMatchObject({ code: 'not-found' });
    await registerAll(its, one, two);
    const texts = await files.packed(participant, 'urn:agreement:one', open);
    expect(texts.map((text) => verifyReceipt(tools, trust(), text).code)).toEqual([0, 0]);
    const single = await files.one(participant, requestOf(1), { context: true, sums: true });
    expect(verifyReceipt(tools, trust(), single).code).toBe(4);
  });

  test('leave out what has no records, and hand out nothing that does not verify', async () => {
    const empty = { ...one.interval, accesses: [] };
    await using its = await world([empty]);
    await registerAll(its, one);
    expect(await all(its)).toEqual([]);
    const wrong = { ...one.interval, accesses: one.interval.accesses.with(0, accessOf(1, { bytes: '9' })) };
    await using other = await world([wrong]);
    await registerAll(other, one);
    await expect(all(other)).rejects.toMatchObject({ code: 'data-damaged' });
  });

  test('the consumer gets the same, though the provider registered them', async () => {
    await using its = await world();
    await registerAll(its, one);
    const stated = statedFrom([one.interval]);
    await using theirs = await startConnector(its.broker, { did: consumer.did, clock, stated });
    const later = { notBefore: clock.now() + 60_000 };
    await theirs.evidence.registrar.submit(submissionOf(agreement.body, later));
    await theirs.evidence.registrar.submit(submissionOf(one.made.body, later));
    const ask = () =>
      theirs.evidence.receipts.ofRequest(theirs.participant, requestOf(3)).then(receiptText, () => undefined);
    const mine = await eventually(ask, (text) => text !== undefined);
    expect(mine).toBe(receiptText(await receiptFor(its, requestOf(3))));
    expect(its.broker.ledger.size).toBe(5);
  });
});
