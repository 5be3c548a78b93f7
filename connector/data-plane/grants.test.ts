import { describe, expect, test } from 'vitest';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { freePort } from '../../test/support/holder.ts';
import {
  createSqlApplicationStore,
  createSqlGrantStore,
  type DataPlaneTables,
  dataPlaneMigrations,
} from '../adapters/sql/data-plane-store.ts';
import { createApplications } from './applications.ts';
import { createGrants, type Grants, secretHashOf } from './grants.ts';
import type { AccessTerms } from './ports.ts';

const us = 'main' as ParticipantId;
const consumer = 'did:web:consumer.example' as Did;
const terms: AccessTerms = {
  agreementId: 'urn:uuid:a',
  agreement: 'digest',
  consumer,
  asset: 'urn:asset:rain',
  upstream: { kind: 'file', path: '/data/rain.json' },
  rules: { permission: [{ action: 'use' }] },
  assurance: 'cosigned',
  price: '',
  pricePlan: null,
  silence: 60_000,
};
const request = { participant: us, transfer: 'urn:uuid:t', agreementId: terms.agreementId, consumer };

/** Two processes on the same rows; what one tells, the other hears when the test says so. */
const twoProcesses = async () => {
  const { db } = openSqlite<DataPlaneTables>({ path: ':memory:' });
  await migrate(db, 'data-plane', dataPlaneMigrations);
  const port = await freePort();
  const told: string[] = [];
  let isEnded = false;
  const one = (): Grants =>
    createGrants({
      store: createSqlGrantStore(db),
      terms: { find: async () => (isEnded ? 'ended' : terms) },
      peerFacts: { of: async () => undefined },
      sources: {
        open: () => ({
          ask: () => {
            throw new Error('nothing is read here');
          },
        }),
      },
      changed: (participant, transfer) => told.push(`${participant} ${transfer}`),
      clock: systemClock,
      random: systemRandom,
      log: silentLogger,
      dataOrigin: `http://localhost:${port}`,
      tokenEndpoint: () => `http://localhost:${port}/ext/1/tokens`,
    });
  return { db, here: one(), there: one(), told, end: () => (isEnded = true) };
};

/** The digest of the grant in a data address. */
const hashIn = (address: Awaited<ReturnType<Grants['open']>>): string =>
  secretHashOf(String(address.endpointProperties?.find(({ name }) => name === 'grant')?.value));

describe('transfers that another process opened or closed', () => {
  test('are open and closed here too when word of them came', async () => {
    const { here, there, told } = await twoProcesses();
    const first = hashIn(await here.open(request));
    expect(told).toEqual(['main urn:uuid:t']);
    await there.refresh(us, request.transfer);
    expect(there.findBySecret(first)?.grant.transfer).toBe(request.transfer);
    const second = hashIn(await here.open(request));
    await there.refresh(us, request.transfer);
    expect(there.findBySecret(first)).toBeUndefined();
    expect(there.findBySecret(second)?.isOpen).toBe(true);
    const served = there.find(request.transfer);
    await here.close(us, request.transfer);
    expect(told).toHaveLength(3);
    await there.refresh(us, request.transfer);
    expect(there.find(request.transfer)).toBeUndefined();
    expect(served?.isOpen).toBe(false);
  });

  test('are found out without a word, all at once', async () => {
    const { here, there } = await twoProcesses();
    for (const transfer of ['urn:uuid:1', 'urn:uuid:2', 'urn:uuid:3']) await here.open({ ...request, transfer });
    await there.refreshAll();
    expect([...there.all()].map(({ grant }) => grant.transfer).toSorted()).toHaveLength(3);
    await here.close(us, 'urn:uuid:1');
    const anew = hashIn(await here.open({ ...request, transfer: 'urn:uuid:2' }));
    await here.open({ ...request, transfer: 'urn:uuid:4' });
    const untouched = there.find('urn:uuid:3');
    await there.refreshAll();
    expect([...there.all()].map(({ grant }) => grant.transfer).toSorted()).toEqual([
      'urn:uuid:2',
      'urn:uuid:3',
      'urn:uuid:4',
    ]);
    expect(there.findBySecret(anew)).toBeDefined();
    expect(there.find('urn:uuid:3')).toBe(untouched);
  });

  test('end with their agreement, also where no word of them had come', async () => {
    const { here, there } = await twoProcesses();
    await here.open(request);
    await there.open({ ...request, transfer: 'urn:uuid:elsewhere' });
    expect(await here.endAgreement(us, terms.agreementId)).toBe(2);
    await there.refresh(us, 'urn:uuid:elsewhere');
    expect([...here.all(), ...there.all()]).toEqual([]);
  });

  test('are not brought back when their agreement ended meanwhile', async () => {
    const { here, there, end } = await twoProcesses();
    await here.open(request);
    end();
    await there.refresh(us, request.transfer);
    expect(there.find(request.transfer)).toBeUndefined();
    await here.refresh(us, request.transfer);
    expect(here.find(request.transfer)).toBeUndefined();
  });
});

test('own applications that another process added or removed are known here when word of them came', async () => {
  const { db } = await twoProcesses();
  let words = 0;
  const one = () =>
    createApplications({
      store: createSqlApplicationStore(db),
      changed: () => {
        words += 1;
      },
      clock: systemClock,
      random: systemRandom,
    });
  const [here, there] = [await one(), await one()];
  const { key } = await here.add(us, 'urn:stekker:1:app:evacuatie@1.0.0');
  expect([words, there.ofKey(key)]).toEqual([1, undefined]);
  await there.refresh();
  expect(there.ofKey(key)?.id).toBe('urn:stekker:1:app:evacuatie@1.0.0');
  await here.remove(us, 'urn:stekker:1:app:evacuatie@1.0.0');
  expect(words).toBe(2);
  await there.refresh();
  expect(there.ofKey(key)).toBeUndefined();
});
