import {
  createSqlProcessStore,
  type ProcessTables,
  processMigrations,
} from '../../../connector/adapters/sql/process-store.ts';
import type { NegotiationKind } from '../../../connector/negotiation/machine.ts';
import type { NegotiationData, NegotiationRow } from '../../../connector/negotiation/ports.ts';
import { toHex } from '../../../contracts/bytes.ts';
import type { NegotiationState } from '../../../contracts/dsp/negotiation.ts';
import type { Role } from '../../../contracts/dsp/process.ts';
import type { Did, ParticipantId } from '../../../contracts/ids.ts';
import { formatTime } from '../../../contracts/time.ts';
import { systemClock } from '../../../kernel/clock.ts';
import { createIds, systemRandom } from '../../../kernel/random.ts';
import { migrate } from '../../../kernel/sql/migrate.ts';
import { outboxMigrations } from '../../../kernel/sql/outbox.ts';
import { openSqlite } from '../../../kernel/sql/sqlite.ts';
import { rules } from './scripts.ts';

/** Agreements that are there beforehand: finalized negotiations, put into the rows of a connector that is not started yet. */

export interface HeldAgreement {
  readonly id: string;
  /** Of the connector. */
  readonly role: Role;
}

export interface HeldIn {
  /** The database of the connector. */
  readonly path: string;
  readonly participant: ParticipantId;
  readonly did: Did;
  readonly peer: Did;
  readonly peerBase: string;
  readonly dataset: string;
  readonly offer: string;
}

const rowOf = (its: HeldIn, { id, role }: HeldAgreement, newId: () => string): NegotiationRow => {
  const now = systemClock.now();
  const offer = { '@type': 'Offer', '@id': its.offer, target: its.dataset, ...rules };
  const [assigner, assignee] = role === 'provider' ? [its.did, its.peer] : [its.peer, its.did];
  const timestamp = formatTime(now);
  const agreement = { '@type': 'Agreement', '@id': id, target: its.dataset, assigner, assignee, timestamp, ...rules };
  const data: NegotiationData = {
    dataset: its.dataset,
    offerId: its.offer,
    offer,
    offerBy: 'consumer',
    offers: [],
    assurance: 'plain-dsp',
    price: '',
    agreement: { agreement, digest: '', artifact: null, leafKey: null },
    status: 'in-force',
    signedAt: now,
    announced: false,
    end: null,
    ending: null,
  };
  return {
    participant: its.participant,
    pid: newId(),
    peer: its.peer,
    peerPid: newId(),
    peerBase: its.peerBase,
    process: { role, state: 'FINALIZED', pending: null },
    outgoing: null,
    settledPeer: '',
    data,
    createdAt: now,
    updatedAt: now,
    version: 1,
    trace: toHex(systemRandom.bytes(16)),
  };
};

export const putAgreements = async (its: HeldIn, agreements: readonly HeldAgreement[]): Promise<void> => {
  await using database = openSqlite<ProcessTables>({ path: its.path });
  const { db } = database;
  await migrate(db, 'outbox', outboxMigrations);
  await migrate(db, 'process', processMigrations);
  const store = createSqlProcessStore<NegotiationState, NegotiationKind, NegotiationData>(db, 'negotiations');
  const ids = createIds(systemClock, systemRandom);
  for (const agreement of agreements) {
    const row = rowOf(its, agreement, () => `urn:uuid:${ids()}`);
    const saved = await store.save({ row, names: { agreement: agreement.id }, send: false, work: true });
    if (saved !== 'saved') throw new Error(`the agreement ${agreement.id} was not kept: ${saved}`);
  }
};
