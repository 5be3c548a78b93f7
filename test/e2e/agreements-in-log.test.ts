import { describe, expect, test } from 'vitest';
import type { AgreementWatch, NegotiationRow } from '../../connector/negotiation/ports.ts';
import type { Json } from '../../contracts/json.ts';
import { readAgreementEvent } from '../../contracts/ledger/agreement.ts';
import { systemClock } from '../../kernel/clock.ts';
import { endedOn, idOf, inForce, pair, rowOf } from '../support/agreement-pair.ts';
import { eventually, ordinary, type Party, type PartyOptions, tenant } from '../support/dsp-pair.ts';
import {
  registrationOf,
  startConnector,
  startTestBroker,
  type TestBroker,
  type TestConnector,
} from '../support/evidence-world.ts';
import { joinAll } from '../support/log-bench.ts';
import { consumer as consumerSigner, provider as providerSigner } from '../support/log-parties.ts';

/** Two connectors negotiate, end and void agreements, and bring each artifact to the real log over HTTP. */

/** What main does: agreements go from the negotiation to the registrar. */
const registering = (evidence: () => TestConnector['evidence']): AgreementWatch => {
  const held = ({ participant, process, data }: NegotiationRow) => ({
    participant,
    role: process.role,
    artifact: data.agreement?.artifact ?? null,
    leafKey: data.agreement?.leafKey ?? null,
  });
  return {
    inForce: (row) => evidence().agreements.inForce(held(row)),
    ended: async () => undefined,
    endSigned: (row) => {
      const { artifact = null, leafKey = null } = row.data.end ?? {};
      return evidence().agreements.ended({ ...held(row), artifact, leafKey });
    },
  };
};

interface Side {
  readonly party: Party;
  readonly connector: TestConnector;
}

interface World extends AsyncDisposable {
  readonly broker: TestBroker;
  readonly clock: { ahead: number };
  readonly provider: Side;
  readonly consumer: Side;
  readonly negotiate: Awaited<ReturnType<typeof pair>>['negotiate'];
}

const world = async (changes: Partial<PartyOptions> = {}): Promise<World> => {
  const started = new Map<string, TestConnector>();
  const evidenceOf = (name: string) => () => {
    const found = started.get(name)?.evidence;
    if (found === undefined) throw new Error(`${name} is not started yet`);
    return found;
  };
  const optionsFor = (name: string): Partial<PartyOptions> => ({
    hear: registering(evidenceOf(name)),
    registered: { find: (participant, digest) => evidenceOf(name)().registered.find(participant, digest) },
  });
  const both = await pair({ ...optionsFor('provider'), ...changes }, optionsFor('consumer'));
  const { clock, negotiate } = both;
  const broker = await startTestBroker(clock);
  await joinAll(broker.ledger);
  const provider = await startConnector(broker, { did: providerSigner.did, clock });
  const consumer = await startConnector(broker, { did: consumerSigner.did, clock });
  started.set('provider', provider).set('consumer', consumer);
  return {
    broker,
    clock,
    negotiate,
    provider: { party: both.provider, connector: provider },
    consumer: { party: both.consumer, connector: consumer },
    [Symbol.asyncDispose]: async () => {
      await both[Symbol.asyncDispose]();
      await provider[Symbol.asyncDispose]();
      await consumer[Symbol.asyncDispose]();
      await broker[Symbol.asyncDispose]();
    },
  };
};

const digestOf = (row: NegotiationRow): string => row.data.agreement?.digest ?? '';

const registeredOn = async (
  { connector }: Side,
  digest: string,
  kind: 'agreement' | 'agreement-event',
  subject = '',
) => {
  const found = await eventually(
    () => registrationOf(connector, digest, kind, subject),
    (one) => one?.outcome.state === 'registered',
  );
  return found?.outcome.state === 'registered' ? found.outcome : undefined;
};

describe('agreements in the log', () => {
  test('are registered from FINALIZED, once by both, and their ends behind them; every leaf key is gone', async () => {
    await using its = await world();
    const { provider, consumer } = its;
    const row = await its.negotiate();
    const digest = digestOf(row);
    expect(await registeredOn(provider, digest, 'agreement')).toMatchObject({ index: 3 });
    expect((await registrationOf(consumer.connector, digest))?.outcome.state).toBe('waiting');
    await consumer.party.negotiations.end(tenant, idOf(row), 'the flood is over');
    const ended = await endedOn(provider.party, row);
    await endedOn(consumer.party, row);
    const subject = `end ${consumerSigner.did} ${providerSigner.did}`;
    const event = await registeredOn(provider, digest, 'agreement-event', subject);
    expect(event).toMatchObject({ index: 4, artifact: ended.data.end?.artifact });
    its.clock.ahead += 61_000;
    expect(await registeredOn(consumer, digest, 'agreement')).toMatchObject({ index: 3 });
    expect(await registeredOn(consumer, digest, 'agreement-event', subject)).toMatchObject({ index: 4 });
    expect(its.broker.ledger.size).toBe(5);
    for (const { party, connector } of [provider, consumer]) {
      const { data } = await rowOf(party, row);
      const rows = await connector.database.db.selectFrom('registration').select('leaf_key').execute();
      const leafKeys = [data.agreement?.leafKey, data.end?.leafKey, ...rows.map(({ leaf_key }) => leaf_key)];
      expect(leafKeys).toEqual([null, null, null, null]);
      expect(connector.alarms).toEqual([]);
    }
    const shown = await provider.party.app.fetch(
      new Request(`https://provider.example/ext/1/agreements/${encodeURIComponent(idOf(row))}`, {
        headers: { authorization: consumer.party.did },
      }),
    );
    expect((await shown.json()) as Json).toMatchObject({ status: 'ended', registration: { index: '3' } });
  });

  test('that were superseded stand there with the event that names the successor, signed by both', async () => {
    await using its = await world();
    const { provider, consumer } = its;
    const old = await its.negotiate();
    expect(await registeredOn(provider, digestOf(old), 'agreement')).toMatchObject({ index: 3 });
    const next = await its.negotiate(inForce, idOf(old));
    const ended = await endedOn(provider.party, old);
    expect(ended.data.status).toBe('superseded');
    const subject = `end ${consumerSigner.did} ${providerSigner.did}`;
    const event = await registeredOn(provider, digestOf(old), 'agreement-event', subject);
    expect(event?.artifact).toEqual(ended.data.end?.artifact);
    const read = readAgreementEvent(event?.artifact);
    expect(read.ok && [read.value.value.reason, read.value.signatures.length]).toEqual([
      `urn:stekker:1:superseded-by:${digestOf(next)}`,
      2,
    ]);
    expect(await registeredOn(provider, digestOf(next), 'agreement')).toBeDefined();
    its.clock.ahead += 61_000;
    expect(await registeredOn(consumer, digestOf(old), 'agreement-event', subject)).toMatchObject({
      index: event?.index,
    });
    for (const { party, connector } of [provider, consumer]) {
      const { data } = await rowOf(party, old);
      const rows = await connector.database.db.selectFrom('registration').select('leaf_key').execute();
      expect([data.agreement?.leafKey, data.end?.leafKey, ...rows.map(({ leaf_key }) => leaf_key)]).not.toContainEqual(
        expect.anything(),
      );
      expect(connector.alarms).toEqual([]);
    }
  });

  test('that were signed and never in force are declared void, and cannot be registered afterwards', async () => {
    await using its = await world({
      decide: (row) => (row.process.state === 'VERIFIED' ? { do: 'wait' } : ordinary(row)),
    });
    const { provider, consumer } = its;
    const row = await its.negotiate(({ process }) => process.state === 'VERIFIED');
    await provider.party.negotiations.decide(tenant, row.peerPid ?? '', { do: 'terminate', code: 'test', reason: [] });
    const subject = `void ${providerSigner.did}`;
    expect(await registeredOn(provider, digestOf(row), 'agreement-event', subject)).toMatchObject({ index: 3 });
    const signed = row.data.agreement;
    if (signed?.artifact == null || signed.leafKey === null) throw new Error('the consumer holds both signatures');
    const { artifact, leafKey } = signed;
    const late = { participant: tenant, kind: 'agreement', artifact, leafKey, notBefore: 0 } as const;
    await consumer.connector.evidence.registrar.submit(late);
    const refused = await eventually(
      () => registrationOf(consumer.connector, digestOf(row)),
      (one) => one?.outcome.state === 'refused',
    );
    expect(refused?.outcome).toMatchObject({ reason: expect.stringContaining('declared void') });
    its.clock.ahead += 61_000;
    await registeredOn(consumer, digestOf(row), 'agreement-event', `void ${consumerSigner.did}`);
    expect(its.broker.ledger.size).toBe(5);
  });

  test('that end while the log is out of reach are registered later, and then their end', async () => {
    await using its = await world();
    its.broker.meddle = async () => new Response(null, { status: 503 });
    const row = await its.negotiate(inForce);
    await its.provider.party.negotiations.end(tenant, idOf(row), '');
    await endedOn(its.provider.party, row);
    await systemClock.sleep(50);
    its.broker.meddle = (_request, answer) => answer();
    const agreement = await registeredOn(its.provider, digestOf(row), 'agreement');
    const subject = `end ${providerSigner.did} ${consumerSigner.did}`;
    const event = await registeredOn(its.provider, digestOf(row), 'agreement-event', subject);
    expect([agreement?.index, event?.index]).toEqual([3, 4]);
    expect(its.provider.connector.alarms).toEqual([]);
  });
});
