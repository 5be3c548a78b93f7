import { describe, expect, test } from 'vitest';
import { toHex, utf8 } from '../../../contracts/bytes.ts';
import type { GeneralJws } from '../../../contracts/ledger/jws.ts';
import { jwsText } from '../../../contracts/ledger/jws.ts';
import { publicText } from '../../../contracts/ledger/public-entries.ts';
import { nodeCrypto } from '../../../kernel/crypto.ts';
import { migrate } from '../../../kernel/sql/migrate.ts';
import { openSqlite } from '../../../kernel/sql/sqlite.ts';
import { consumer, keyEventBody, provider, stranger } from '../../../test/support/log-parties.ts';
import type { SubjectRow } from '../../ledger/ports.ts';
import { sqlLogNews } from './log-news.ts';
import { sqlLogStore } from './log-store.ts';
import { type LogTables, logMigrations } from './log-tables.ts';

const origin = 'broker.example/log/2026';
const digestOf = (name: string): string => name.padEnd(42, 'x').concat('A');
const parties = [provider.did, consumer.did];

const agreement =
  (name: string) =>
  (index: number): SubjectRow => ({
    kind: 'agreement',
    row: {
      agreementDigest: digestOf(name),
      index,
      agreement: `urn:agreement:${name}`,
      provider: provider.did,
      providerPid: `urn:uuid:${name}`,
      consumer: consumer.did,
      assurance: 'cosigned',
      price: '',
      timestamp: 1,
    },
  });
const ending =
  (name: string, event: 'void' | 'end', signers: readonly string[]) =>
  (index: number): SubjectRow => ({
    kind: 'agreement-event',
    row: { agreementDigest: digestOf(name), index, event, signers },
  });
const statement =
  (name: string) =>
  (index: number): SubjectRow => ({
    kind: 'statement',
    row: {
      agreementDigest: digestOf(name),
      index,
      seq: String(index),
      digest: digestOf('P'),
      last: '1',
      to: '2026-11-26T00:00:00.000Z',
      final: false,
      sums: { amount: { currency: '', scale: '0', value: '0' }, salt: digestOf('salt'), totals: {} },
    },
  });
const asPublic =
  (kind: 'key-event' | 'key-effective' | 'genesis', text: string) =>
  (index: number): SubjectRow => ({ kind: 'public', row: { index, kind, text, at: index }, joinCode: null });
const keyEvent = (artifact: GeneralJws) => asPublic('key-event', jwsText(artifact));

/** A log of these entries, and its news. */
const logOf = async (...makers: readonly ((index: number) => SubjectRow)[]) => {
  const { db } = openSqlite<LogTables>({ path: ':memory:' });
  await migrate(db, 'ledger', logMigrations);
  const store = sqlLogStore(db);
  const subjects = makers.map((make, index) => make(index));
  await store.commit(origin, {
    from: 0,
    fence: null,
    head: { size: subjects.length, root: digestOf('root'), stack: [] },
    entries: subjects.map((subject, index) => ({
      entry: { index, leaf: digestOf(`leaf${index}-`), entry: '{}', at: index },
      subject,
      artifact: {
        index,
        digest: subject.kind === 'public' ? toHex(nodeCrypto.sha256(utf8(subject.row.text))) : `digest${index}`,
        text: '',
        agreementDigest: subject.kind === 'public' ? null : subject.row.agreementDigest,
      },
    })),
  });
  return sqlLogNews(db, origin);
};

const endOf = (index: number, name: string) => ({
  index,
  type: 'agreement-ended',
  subject: digestOf(name),
  audience: parties,
});

describe('news of the log', () => {
  test('keys that change, and when a change takes effect, are for all; other public entries are no news', async () => {
    const event = keyEventBody({ of: provider });
    const news = await logOf(
      asPublic('genesis', '{"type":"genesis"}'),
      keyEvent(event.body.artifact),
      agreement('a'),
      statement('a'),
      asPublic(
        'key-effective',
        publicText({ v: 1, type: 'key-effective', event: event.hash, at: '2026-11-26T00:00:00.000Z' }),
      ),
    );
    const keys = { type: 'keys', subject: provider.did, audience: null };
    expect(await news.behind(0, 10)).toEqual({
      items: [
        { index: 1, ...keys },
        { index: 4, ...keys },
      ],
      until: 5,
    });
    expect(await news.behind(2, 10)).toEqual({ items: [{ index: 4, ...keys }], until: 5 });
    expect(await news.behind(5, 10)).toEqual({ items: [], until: 5 });
  });

  test('the end of an agreement is for its parties', async () => {
    const news = await logOf(
      agreement('a'),
      ending('a', 'end', [provider.did, consumer.did]),
      agreement('b'),
      ending('b', 'void', [consumer.did]),
    );
    expect(await news.behind(0, 10)).toEqual({ items: [endOf(1, 'a'), endOf(3, 'b')], until: 4 });
    expect(await news.behind(2, 10)).toEqual({ items: [endOf(3, 'b')], until: 4 });
  });

  test('what somebody declares void before there is an agreement ends nothing', async () => {
    const news = await logOf(ending('a', 'void', [stranger.did]), agreement('a'));
    expect(await news.behind(0, 10)).toEqual({ items: [], until: 2 });
  });

  test('what does not fit one answer is in the next, whatever the limit', async () => {
    const makers = [
      ending('a', 'void', [stranger.did]),
      keyEvent(keyEventBody({ of: provider }).body.artifact),
      agreement('a'),
      agreement('b'),
      ending('b', 'end', [provider.did]),
      ending('b', 'end', [consumer.did]),
      keyEvent(keyEventBody({ of: consumer }).body.artifact),
      ending('a', 'end', [consumer.did]),
    ];
    const news = await logOf(...makers);
    const whole = await news.behind(0, 100);
    expect(whole.items.map(({ index }) => index)).toEqual([1, 4, 5, 6, 7]);
    for (let limit = 1; limit <= makers.length; limit += 1) {
      const found = [];
      for (let from = 0; from < makers.length; ) {
        const { items, until } = await news.behind(from, limit);
        expect(until).toBeGreaterThan(from);
        found.push(...items);
        from = until;
      }
      expect(found).toEqual(whole.items);
    }
  });

  test('a log that does not exist yet has none', async () => {
    const { db } = openSqlite<LogTables>({ path: ':memory:' });
    await migrate(db, 'ledger', logMigrations);
    expect(await sqlLogNews(db, origin).behind(0, 10)).toEqual({ items: [], until: 0 });
  });
});
