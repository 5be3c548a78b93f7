import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Have } from '../../contracts/ledger/statement.ts';
import { chargedUnits } from '../../contracts/ledger/usage-entry.ts';
import { digestOf } from '../../test/support/meter-pair.ts';
import { digestOfNothing, haveOfClose, haveOfRow, isSameHave, judge, resolve, unknownHave } from './counts.pure.ts';

const have = (bytes: number, changes: Partial<Have> = {}): Have => {
  const status = changes.status ?? '200';
  return {
    bytes: String(bytes),
    digest: digestOf(`${bytes} bytes`),
    outcome: 'ok',
    status,
    units: chargedUnits({ status: Number(status), part: 1, bytes, items: null }),
    ...changes,
  };
};
const partial = (bytes: number, changes: Partial<Have> = {}) => have(bytes, { outcome: 'partial', ...changes });
const row = (its: Have, part = '1') => ({
  ...its,
  n: '1',
  request: '01a20810-0f6c-7000-8000-000000000001',
  part,
  at: '2026-11-26T10:00:00.000Z',
  ext: null,
});

describe('two counts of one access', () => {
  test('the digest of nothing is that of no bytes', () => {
    expect(digestOfNothing).toBe(digestOf(''));
  });

  test('a close and a row hold the same count', () => {
    const close = { ...have(3), t: 'close', agreement: '', request: '', part: 1, bytes: 3, outcome: 'ok' } as const;
    expect(haveOfClose(close as Parameters<typeof haveOfClose>[0])).toEqual(have(3));
    expect(haveOfRow(row(have(3)))).toEqual(have(3));
    expect(isSameHave(have(3), have(3, { units: { requests: '1' } }))).toBe(false);
    expect(isSameHave(have(3), have(3, { units: { requests: '2', bytes: '3' } }))).toBe(false);
  });

  describe('the provider resolves a refused row', () => {
    test.each<[string, Have, Have | null, Have | undefined]>([
      ['a body that broke off: the smaller count', have(10), partial(4), partial(4)],
      ['a body that broke off at our side: ours, when it is smaller', partial(4), have(10), partial(4)],
      ['our own crash: the count of the consumer', unknownHave, have(10), have(10)],
      ['our own crash, and none of the consumer: nothing', unknownHave, unknownHave, unknownHave],
      ['the crash of the consumer: nothing', have(10), unknownHave, unknownHave],
      ['both say ok and differ: a dispute', have(10), have(9), undefined],
      ['the consumer says there was none: a dispute', have(10), null, undefined],
      ['another status than was sent: a dispute', have(10), partial(4, { status: '404', units: {} }), undefined],
      [
        'no answer arrived at all',
        have(10),
        partial(0, { status: '', digest: digestOfNothing, units: {} }),
        partial(0, { digest: digestOfNothing, units: { requests: '1' } }),
      ],
      [
        'a refused answer that broke off: no units',
        have(10, { status: '404', units: {} }),
        partial(4, { status: '404', units: {} }),
        partial(4, { status: '404', units: {} }),
      ],
      [
        'units that a count cannot have',
        have(10),
        partial(4, { units: { requests: '1', bytes: '4', items: '2' } }),
        undefined,
      ],
      ['units of somebody else', have(10), partial(4, { units: {} }), undefined],
      ['a claim in dispute is no claim', have(10), { ...have(10), outcome: 'disputed' }, undefined],
      ['an unknown that counts', have(10), { ...unknownHave, bytes: '3' }, undefined],
      ['more than a part can hold', unknownHave, have(67_108_865), undefined],
      [
        'items are the consumer’s to tell when we lost our count',
        unknownHave,
        have(10, { units: { requests: '1', bytes: '10', items: '2' } }),
        have(10, { units: { requests: '1', bytes: '10', items: '2' } }),
      ],
    ])('%s', (_name, own, claim, expected) => {
      const found = resolve(own, claim, 1);
      expect(found).toEqual(expected);
    });

    test('a later part never counts the request again', () => {
      const later = partial(4, { units: { bytes: '4' } });
      expect(resolve(have(10, { units: { bytes: '10' } }), later, 2)).toEqual(later);
    });
  });

  describe('the consumer judges a row', () => {
    const disputed = (provider: Have, consumer: Have, changes: object = {}) => ({
      ...row({ ...provider, outcome: 'disputed', units: {} }),
      ext: { provider, consumer },
      ...changes,
    });
    test.each<[string, Have | undefined, Parameters<typeof judge>[1], string]>([
      ['the same', have(10), row(have(10)), 'accept'],
      ['one we do not know', undefined, row(have(10)), 'missing'],
      ['more than we have', have(9), row(have(10)), 'counts'],
      ['less than we have, though both say ok', have(10), row(have(9)), 'counts'],
      ['our broken body', partial(4), row(partial(4)), 'accept'],
      ['less than our broken body', partial(4), row(partial(3)), 'accept'],
      ['more than our broken body', partial(4), row(partial(5)), 'counts'],
      ['as many bytes under another digest', partial(4), row(partial(4, { digest: digestOf('x') })), 'counts'],
      ['whole here, broken off there', have(10), row(partial(6)), 'accept'],
      [
        'broken off, and charged for items',
        partial(4),
        row(partial(3, { units: { requests: '1', bytes: '3', items: '1' } })),
        'counts',
      ],
      ['broken off under another status', partial(4), row(partial(3, { status: '206' })), 'counts'],
      [
        'broken off where we saw no answer',
        partial(0, { status: '', digest: digestOfNothing, units: {} }),
        row(partial(0, { digest: digestOfNothing, units: { requests: '1' } })),
        'accept',
      ],
      ['unknown there, counted here', have(10), row(unknownHave), 'counts'],
      ['counted there, unknown here', unknownHave, row(partial(0)), 'counts'],
      ['unknown on both sides', unknownHave, row(unknownHave), 'accept'],
      ['in dispute, with both claims', have(9), disputed(have(10), have(9)), 'accept'],
      ['in dispute, with another claim than ours', have(9), disputed(have(10), have(8)), 'counts'],
      ['in dispute, and charged', have(9), disputed(have(10), have(9), { units: { requests: '1' } }), 'counts'],
      ['in dispute, and its own claim is another', have(9), disputed(have(10), have(9), { bytes: '11' }), 'counts'],
      ['in dispute without claims', have(9), { ...row(have(9)), outcome: 'disputed', units: {} }, 'counts'],
    ])('%s', (_name, own, stated, expected) => {
      expect(judge(own, stated)).toBe(expected);
    });
  });

  test('what the provider resolves the consumer accepts, and it is never more than either counted', () => {
    const count = fc
      .record({ bytes: fc.integer({ min: 0, max: 50 }), outcome: fc.constantFrom('ok', 'partial', 'unknown') })
      .map(({ bytes, outcome }) => (outcome === 'unknown' ? unknownHave : have(bytes, { outcome: outcome as 'ok' })));
    fc.assert(
      fc.property(count, count, (own, claim) => {
        const resolved = resolve(own, claim, 1);
        if (resolved === undefined) {
          expect([own.outcome, claim.outcome]).toEqual(['ok', 'ok']);
          return;
        }
        expect(judge(claim, row(resolved))).toBe('accept');
        expect(Number(resolved.bytes)).toBeLessThanOrEqual(Number(claim.bytes));
        if (own.outcome !== 'unknown') expect(Number(resolved.bytes)).toBeLessThanOrEqual(Number(own.bytes));
      }),
    );
  });
});
