import { describe, expect, test } from 'vitest';
import { toBase64Url } from '../../contracts/bytes.ts';
import { recordLeaf } from '../../contracts/ledger/record.ts';
import { readStatementArtifact } from '../../contracts/ledger/statement.ts';
import { rootOf } from '../../contracts/ledger/tree.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import { access, type MeterParty, startMeterPair, us } from '../../test/support/meter-pair.ts';

const newest = (party: MeterParty, agreement: string) =>
  party.options.statements.find({ participant: us, role: party.role, agreement }, 'newest');

const complete = (party: MeterParty, agreement: string, seq: number) =>
  eventually(
    () => newest(party, agreement),
    (found) => found?.state === 'complete' && Number(found.payload.seq) >= seq,
  );

describe('statements between two connectors', () => {
  test('both sides come to the same statement, signed by both', async () => {
    await using pair = await startMeterPair();
    const { provider, consumer, agreement } = pair;
    await access(pair, agreement);
    await access(pair, agreement, { body: 'defg' });
    await consumer.metering.agreementEnded(us, agreement);
    await provider.metering.agreementEnded(us, agreement);
    const ours = await complete(provider, agreement, 1);
    const theirs = await complete(consumer, agreement, 1);
    expect(ours?.digest).toBe(theirs?.digest);
    expect(ours?.artifact).toEqual(theirs?.artifact);
    expect(ours?.payload).toMatchObject({ seq: '1', first: '1', last: '2', final: true, prev: null });
    expect(ours?.sums.totals).toEqual({ requests: '2', bytes: '7' });
    expect(ours?.sums.amount).toEqual({ currency: 'EUR', scale: '4', value: '50' });
    const read = readStatementArtifact(ours?.artifact);
    expect(read.ok && read.value.signatures.map(({ kid }) => kid)).toEqual([
      'did:web:provider.example#s',
      'did:web:consumer.example#s',
    ]);
    for (const party of [provider, consumer]) {
      const interval = await eventually(
        () => party.metering.usage.ofSeq(us, agreement, 1),
        (found) => found?.records.length === 2,
      );
      const leaves = interval?.records.map(({ record }) => recordLeaf(nodeCrypto, record)) ?? [];
      expect(toBase64Url(rootOf(nodeCrypto, leaves))).toBe(ours?.payload.root);
    }
  });
});
