import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { negotiationProtocol } from '../../connector/negotiation/machine.ts';
import { transferProtocol } from '../../connector/transfer/machine.ts';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import { negotiationStates } from '../../contracts/dsp/negotiation.ts';
import { transferStates } from '../../contracts/dsp/transfer.ts';
import type { Did } from '../../contracts/ids.ts';
import type { TokenService } from '../../kernel/auth.ts';
import { type BrokerBench, brokerBench, type Operated } from '../support/broker-bench.ts';
import {
  acquire,
  type ConnectorBench,
  connectorBench,
  joinBroker,
  type OperatedConnector,
} from '../support/chain-world.ts';
import { messageToken, newRequestId, rowsOf, tokensOf } from '../support/hostile.ts';

/**
 * A member that sends every message in every state, in time and out of time, whole and broken: a real connector never answers
 * with a fault of its own, and no process leaves the tables of the standard (dsp §5.3, §6.3).
 */

type Role = 'provider' | 'consumer';

let brokerSide: BrokerBench;
let broker: Operated;
let sides: Record<Role, ConnectorBench>;
let running: Record<Role, OperatedConnector>;
let tokens: Record<Role, TokenService>;

const otherOf = (role: Role): Role => (role === 'provider' ? 'consumer' : 'provider');

beforeAll(async () => {
  brokerSide = await brokerBench();
  broker = await brokerSide.start();
  const env = { STEKKER_BROKER_URL: brokerSide.origin };
  sides = { provider: await connectorBench(env), consumer: await connectorBench(env) };
  running = { provider: await sides.provider.start(), consumer: await sides.consumer.start() };
  for (const role of ['provider', 'consumer'] as const) await joinBroker(broker, running[role]);
  tokens = { provider: await tokensOf(sides.provider), consumer: await tokensOf(sides.consumer) };
  const path = join(sides.provider.folder, 'levels.json');
  writeFileSync(path, '{}');
  const purpose = 'urn:stekker:1:purpose:crisis';
  const published = await running.provider.operate('POST', '/v1/publications', {
    title: 'Waterstanden',
    upstream: { kind: 'file', path },
    policy: { template: 'purpose', parameters: { purpose } },
  });
  const dataset = String((published.body.asset as { id: string }).id);
  await acquire(running.consumer, { provider: sides.provider.did, dataset });
});
afterAll(async () => {
  for (const one of [running?.consumer, running?.provider, broker, sides?.consumer, sides?.provider, brokerSide])
    await one?.[Symbol.asyncDispose]();
});

/** A message of the standard, by what it does, with the path it goes to behind the process. */
interface Shape {
  readonly kind: string;
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
}

const rules = { permission: [{ action: 'use' }] };
const offer = { '@type': 'Offer', '@id': 'urn:uuid:an-offer', target: 'urn:asset:any', ...rules };
const agreement = {
  '@type': 'Agreement',
  '@id': 'urn:uuid:an-agreement',
  target: 'urn:asset:any',
  timestamp: '2026-11-26T12:00:00Z',
  assigner: 'did:web:a.example',
  assignee: 'did:web:b.example',
  ...rules,
};
const callbackAddress = 'http://localhost:9/dsp/2025-1';

const negotiationMessages: readonly Shape[] = [
  { kind: 'request', path: '/request', body: { '@type': 'ContractRequestMessage', offer } },
  { kind: 'offer', path: '/offers', body: { '@type': 'ContractOfferMessage', offer } },
  { kind: 'accepted', path: '/events', body: { '@type': 'ContractNegotiationEventMessage', eventType: 'ACCEPTED' } },
  { kind: 'agreement', path: '/agreement', body: { '@type': 'ContractAgreementMessage', agreement } },
  { kind: 'verification', path: '/agreement/verification', body: { '@type': 'ContractAgreementVerificationMessage' } },
  { kind: 'finalized', path: '/events', body: { '@type': 'ContractNegotiationEventMessage', eventType: 'FINALIZED' } },
  { kind: 'termination', path: '/termination', body: { '@type': 'ContractNegotiationTerminationMessage' } },
];
const dataAddress = { '@type': 'DataAddress', endpointType: 'urn:stekker:1:http', endpoint: 'http://localhost:9/x' };
const transferMessages: readonly Shape[] = [
  { kind: 'start', path: '/start', body: { '@type': 'TransferStartMessage', dataAddress } },
  { kind: 'suspension', path: '/suspension', body: { '@type': 'TransferSuspensionMessage', code: 'x', reason: ['x'] } },
  { kind: 'completion', path: '/completion', body: { '@type': 'TransferCompletionMessage' } },
  { kind: 'termination', path: '/termination', body: { '@type': 'TransferTerminationMessage' } },
];

/** Whole; of another process; without what it must have; no message at all; nothing that can be read. */
const variants = ['whole', 'other pids', 'bare', 'list', 'no json'] as const;
type Variant = (typeof variants)[number];

const protocols = {
  negotiations: { states: negotiationStates, messages: negotiationMessages, table: negotiationProtocol.receives },
  transfers: { states: transferStates, messages: transferMessages, table: transferProtocol.receives },
} as const;
type ProtocolName = keyof typeof protocols;

interface Placed {
  readonly protocol: ProtocolName;
  readonly role: Role;
  readonly state: string;
  readonly message: Shape;
  readonly variant: Variant;
  readonly pid: string;
  readonly peerPid: string;
}

const placesOf = (role: Role): Placed[] =>
  (['negotiations', 'transfers'] as const).flatMap((protocol) =>
    protocols[protocol].states.flatMap((state) =>
      protocols[protocol].messages.flatMap((message) =>
        variants.map((variant) => {
          const [pid, peerPid] = [`urn:uuid:${newRequestId()}`, `urn:uuid:${newRequestId()}`];
          return { protocol, role, state, message, variant, pid, peerPid };
        }),
      ),
    ),
  );

const agreedStatus: Readonly<Record<string, string>> = {
  AGREED: 'signed',
  VERIFIED: 'signed',
  FINALIZED: 'in-force',
  TERMINATED: 'none',
};

/** What a process of this state knows: no agreement before AGREED. */
const dataFor = ({ protocol, state }: Placed, known: string): string => {
  const data = JSON.parse(known) as Record<string, unknown>;
  if (protocol === 'transfers') return known;
  const status = agreedStatus[state] ?? 'none';
  return JSON.stringify({ ...data, status, ...(status === 'none' ? { agreement: null, signedAt: null } : {}) });
};

/** Puts a process into each state, once for each message, as copies of one that came there by itself. */
const place = async (role: Role): Promise<readonly Placed[]> => {
  const placed = placesOf(role);
  await running[role][Symbol.asyncDispose]();
  const db = new DatabaseSync(join(sides[role].config.STEKKER_DATA, 'connector.sqlite'));
  for (const one of placed) {
    const found = db.prepare('select * from process where protocol = ? and role = ? limit 1').get(one.protocol, role);
    const row = { ...found, pid: one.pid, peer_pid: one.peerPid, state: one.state, pending: null, outgoing: null };
    const whole = { ...row, settled_peer: '', data: dataFor(one, String(found?.data)) };
    const names = Object.keys(whole);
    const sql = `insert into process (${names.join(', ')}) values (${names.map(() => '?').join(', ')})`;
    db.prepare(sql).run(...Object.values(whole));
  }
  db.close();
  running[role] = await sides[role].start();
  return placed;
};

const bodyOf = ({ role, message, variant, pid, peerPid }: Placed): string => {
  if (variant === 'no json') return '{"@type":';
  if (variant === 'list') return '[]';
  if (variant === 'bare') return JSON.stringify({ '@context': [dspaceContext], '@type': message.body['@type'] });
  const [own, its] = variant === 'whole' ? [pid, peerPid] : [peerPid, pid];
  const [providerPid, consumerPid] = role === 'provider' ? [own, its] : [its, own];
  const id = `urn:uuid:${newRequestId()}`;
  return JSON.stringify({ '@context': [dspaceContext], '@id': id, ...message.body, providerPid, consumerPid });
};

const send = async (to: Role, path: string, body: string, by: Role = otherOf(to)): Promise<number> => {
  const audience = sides[to].did as Did;
  const answer = await fetch(`${sides[to].origin}/dsp/2025-1${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: messageToken(tokens[by], audience) },
    body,
  });
  await answer.arrayBuffer();
  return answer.status;
};

const stateOf = ({ role, pid }: Placed): string =>
  String(rowsOf(sides[role], 'select state from process where pid = ?', pid)[0]?.state);

/** What may follow when this peer says this: the state it has, or the one of the table. */
const mayFollow = ({ protocol, role, state, message, variant }: Placed): readonly string[] => {
  const row: Readonly<Record<string, string>> | undefined = Object.entries(protocols[protocol].table[role]).find(
    ([name]) => name === state,
  )?.[1];
  const next = variant === 'whole' ? row?.[message.kind] : undefined;
  return next === undefined ? [state] : [state, next];
};

describe('a hostile member', { timeout: 240_000 }, () => {
  test.each(['provider', 'consumer'] as const)(
    'sends everything in every state to a %s: no 5xx, no illegal state',
    async (role) => {
      const placed = await place(role);
      const wrong: unknown[] = [];
      let accepted = 0;
      for (const one of placed) {
        const { protocol, state, message, variant, pid } = one;
        const status = await send(role, `/${protocol}/${encodeURIComponent(pid)}${message.path}`, bodyOf(one));
        const after = stateOf(one);
        const isLegal = mayFollow(one).includes(after);
        const isAnswered = status < 500 && (variant === 'whole' || status >= 400);
        if (!isLegal || !isAnswered) wrong.push({ protocol, state, kind: message.kind, variant, status, after });
        if (status === 200 && after !== state) accepted += 1;
      }
      expect(wrong).toEqual([]);
      expect(placed.length).toBe((7 * 7 + 5 * 4) * variants.length);
      expect(accepted).toBeGreaterThan(8); // the table was followed, and not just refused
    },
  );

  test('opens processes with what cannot be agreed to, and is refused in the form of the protocol', async () => {
    const base = { '@context': [dspaceContext], consumerPid: `urn:uuid:${newRequestId()}` };
    const openings: readonly (readonly [path: string, body: Record<string, unknown>])[] = [
      ['/negotiations/request', { ...base, '@type': 'ContractRequestMessage', callbackAddress, offer }],
      ['/negotiations/request', { ...base, '@type': 'ContractRequestMessage', offer }],
      [
        '/negotiations/request',
        { ...base, '@type': 'ContractRequestMessage', callbackAddress: 'http://10.0.0.1/', offer },
      ],
      ['/negotiations/offers', { ...base, '@type': 'ContractOfferMessage', callbackAddress, providerPid: 'x', offer }],
      [
        '/transfers/request',
        { ...base, '@type': 'TransferRequestMessage', callbackAddress, agreementId: 'x', format: 'y' },
      ],
      ['/catalog/request', { ...base, '@type': 'CatalogRequestMessage', filter: [{ any: 'thing' }] }],
    ];
    for (const [path, body] of openings) {
      const status = await send('provider', path, JSON.stringify(body));
      expect([path, status >= 200 && status < 500]).toEqual([path, true]);
      expect(await send('provider', path, `${'['.repeat(5_000)}`)).toBe(400);
    }
  });
});
