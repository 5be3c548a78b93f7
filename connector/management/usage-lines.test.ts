import { describe, expect, test } from 'vitest';
import type { ParticipantId } from '../../contracts/ids.ts';
import { createUsageLines, type MeteredAgreement } from './usage-lines.pure.ts';

const us = 'us' as ParticipantId;

describe('usage as people read it', () => {
  const group = (application: string, purpose: string) => ({
    application,
    purpose,
    accesses: 2,
    bytes: 10,
    units: { requests: '2' },
    amount: { currency: 'EUR', scale: '2', value: '50' },
  });
  const metered: readonly MeteredAgreement[] = [
    {
      role: 'provider',
      agreement: 'B',
      agreementId: 'urn:b',
      counterparty: 'did:web:c.example',
      groups: [group('y', 'p'), group('x', 'q'), group('x', 'p')],
    },
    {
      role: 'consumer',
      agreement: 'A',
      agreementId: 'urn:a',
      counterparty: 'did:web:d.example',
      groups: [group('z', '')],
    },
  ];
  const usage = createUsageLines({
    metered: async () => metered,
    datasetOf: async (_participant, id) => (id === 'urn:b' ? 'urn:rain' : undefined),
  });

  test('a line for each application and purpose, in an order that pages can follow', async () => {
    const seen: string[] = [];
    let after = '';
    for (;;) {
      const page = await usage.lines(us, { after, limit: 2 });
      seen.push(...page.map(({ role, application, purpose }) => `${role} ${application} ${purpose}`));
      const last = page.at(-1);
      if (last === undefined) break;
      after = last.key;
    }
    expect(seen).toEqual(['consumer z ', 'provider x p', 'provider x q', 'provider y p']);
  });

  test('with whom, about what and for how much', async () => {
    const [line] = await usage.lines(us, { after: '', limit: 1, agreementId: 'urn:b' });
    expect(line).toMatchObject({
      peer: 'did:web:c.example',
      dataset: 'urn:rain',
      agreementDigest: 'B',
      amount: '50',
      currency: 'EUR',
      units: { requests: '2' },
    });
    expect((await usage.lines(us, { after: '', limit: 9, agreementId: 'urn:a' }))[0]?.dataset).toBe('');
    expect(await usage.lines(us, { after: '', limit: 9, agreementId: 'urn:none' })).toEqual([]);
  });
});
