import { describe, expect, test } from 'vitest';
import type { MessageAgreement } from '../../contracts/dsp/common.ts';
import type { NegotiationData } from './ports.ts';
import { agreementFault, offerFault, rulesOf, sameRules } from './rules.ts';

const now = 1_795_431_600_000;
const data: NegotiationData = {
  dataset: 'urn:asset:rain',
  offerId: 'urn:offer:rain',
  offer: { '@id': 'urn:offer:rain', permission: [{ action: 'use' }] },
  offerBy: 'consumer',
  offers: [],
  assurance: 'cosigned',
  price: '',
  agreement: null,
  status: 'none',
  signedAt: null,
  announced: false,
  end: null,
  ending: null,
};
const agreement: MessageAgreement = {
  '@type': 'Agreement',
  '@id': 'urn:uuid:a',
  target: 'urn:asset:rain',
  assigner: 'did:web:p.example',
  assignee: 'did:web:c.example',
  timestamp: '2026-11-23T11:00:00Z',
  permission: [{ action: 'use' }],
};
const fault = (changes: Partial<MessageAgreement>) =>
  agreementFault(
    { ...agreement, ...changes },
    { data, provider: 'did:web:p.example', consumer: 'did:web:c.example', now },
  );

describe('negotiation rules', () => {
  test('the agreement that was negotiated is accepted', () => {
    expect(fault({})).toBeUndefined();
    expect(fault({ timestamp: '2026-11-23T12:00:30.5+01:00' })).toBeUndefined();
  });

  test.each<[string, Partial<MessageAgreement>]>([
    ['the target', { target: 'urn:asset:other' }],
    ['the assigner', { assigner: 'did:web:other.example' }],
    ['the assignee', { assignee: 'did:web:other.example' }],
    ['the rules', { permission: [{ action: 'distribute' }] }],
    ['the rules', { prohibition: [{ action: 'distribute' }] }],
    ['the rules', { permission: [{ action: 'use' }, { action: 'read' }] }],
    ['the timestamp', { timestamp: '2026-11-23T11:02:00Z' }],
    ['the timestamp', { timestamp: '2026-11-20T11:00:00Z' }],
  ])('another one is refused: %s %j', (what, changes) => {
    expect(fault(changes)).toContain(what);
  });

  test('rules are compared tree for tree', () => {
    expect(
      sameRules(
        { permission: [{ action: 'use', constraint: [] }] },
        { permission: [{ constraint: [], action: 'use' }] },
      ),
    ).toBe(true);
    expect(
      sameRules({ permission: [{ action: 'a' }, { action: 'b' }] }, { permission: [{ action: 'b' }, { action: 'a' }] }),
    ).toBe(false);
    expect(rulesOf({ '@id': 'x', target: 'y', permission: [] })).toEqual({ permission: [] });
  });

  test('an offer for another dataset does not belong here', () => {
    expect(
      offerFault({ '@type': 'Offer', '@id': 'x', target: 'urn:asset:rain', permission: [{ action: 'use' }] }, data),
    ).toBeUndefined();
    expect(
      offerFault({ '@type': 'Offer', '@id': 'x', target: 'urn:other', permission: [{ action: 'use' }] }, data),
    ).toBe('the offer is for another dataset');
  });
});
