import { describe, expect, test } from 'vitest';
import { joinAll, logBench, published } from '../../test/support/log-bench.ts';
import { agreementBody, consumer, provider, statementBody } from '../../test/support/log-parties.ts';

describe('ledger', () => {
  test('smoke', async () => {
    const bench = logBench();
    const ledger = await bench.start();
    expect(ledger.size).toBe(1);
    await joinAll(ledger);
    const agreement = agreementBody();
    const registered = await ledger.register(agreement.body, provider.did);
    expect(registered.index).toBe(3);
    const one = statementBody({ agreement });
    const two = statementBody({ agreement, after: one });
    expect((await ledger.register(one.body, consumer.did)).index).toBe(4);
    expect((await ledger.register(two.body, consumer.did)).index).toBe(5);
    await published(bench, 6);
    expect((await ledger.proof(4)).path.length).toBeGreaterThan(1);
    await ledger.close();
    const again = await bench.start();
    expect(again.size).toBe(6);
    await again.close();
  });
});
