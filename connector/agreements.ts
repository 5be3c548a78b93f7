import { toBase64Url, utf8 } from '../contracts/bytes.ts';
import { endpointOf, propertiesOf } from '../contracts/dsp/transfer.ts';
import type { ParticipantId } from '../contracts/ids.ts';
import { canonicalize } from '../contracts/json.ts';
import type { PricePlan } from '../contracts/ledger/price-plan.ts';
import { parsePeerTime } from '../contracts/time.ts';
import { nodeCrypto } from '../kernel/crypto.ts';
import { overAfter } from '../policies/over.ts';
import type { CatalogClient } from './catalog/client.ts';
import type { CatalogStore } from './catalog/ports.ts';
import type {
  AccessTerms,
  ConsumedTransfer,
  ConsumedTransfers,
  PushedTransfer,
  PushedTransfers,
  Terms,
} from './data-plane/ports.ts';
import type { MeteredAgreement } from './metering/ports.ts';
import type { AgreementStatus, NegotiationRow, NegotiationStore } from './negotiation/ports.ts';
import { rulesOf } from './negotiation/rules.ts';
import type { Agreements, TransferRow, TransferStore } from './transfer/ports.ts';

/** An agreement as each slice needs to see it: all of it stands in its negotiation. */

/**
 * Under which digest an agreement is known here. A peer without extensions signs nothing: then it is the digest of the
 * agreement as it came, which only this side uses.
 */
export const digestOf = ({ data }: NegotiationRow): string => {
  const { agreement } = data;
  if (agreement === null) return '';
  return agreement.digest === ''
    ? toBase64Url(nodeCrypto.sha256(utf8(canonicalize(agreement.agreement))))
    : agreement.digest;
};

const agreedAtOf = ({ data, createdAt }: NegotiationRow): number =>
  parsePeerTime(String(data.agreement?.agreement.timestamp)) ?? createdAt;

/** The last instant at which the rules of an agreement may still permit anything. */
const overAfterOf = (row: NegotiationRow): number | undefined =>
  overAfter(rulesOf(row.data.agreement?.agreement ?? {}), agreedAtOf(row));

export interface AgreementSources {
  readonly negotiations: NegotiationStore;
  readonly transfers: TransferStore;
  readonly catalog: CatalogStore;
  readonly catalogs: Pick<CatalogClient, 'pricePlan'>;
  readonly did: string;
}

type Negotiations = { readonly negotiations: Pick<NegotiationStore, 'findByName'> };

const findRow = ({ negotiations }: Negotiations, participant: ParticipantId, agreementId: string) =>
  negotiations.findByName(participant, 'agreement', agreementId);

/** The plan of an agreement; a consumer asks the provider for it once and keeps it. */
const planOf = async (its: AgreementSources, row: NegotiationRow): Promise<PricePlan | null> => {
  const { price, offerId, assurance } = row.data;
  if (price === '') return null;
  const kept = await its.catalog.read.pricePlan(row.participant, price);
  if (kept !== undefined || row.process.role === 'provider') return kept ?? null;
  const offer = { id: offerId, rules: {}, assurance, price, plan: null };
  const plan = await its.catalogs.pricePlan(row.participant, row.peer, offer);
  if (plan !== null) await its.catalog.putPricePlan(row.participant, price, plan);
  return plan;
};

/** For the meter, when the agreement comes into force. Undefined for one that names no agreement. */
export const meteredAgreement = async (
  its: AgreementSources,
  row: NegotiationRow,
): Promise<MeteredAgreement | undefined> => {
  const { data, process, participant, peer } = row;
  if (data.agreement === null) return undefined;
  const { agreement } = data.agreement;
  const own = its.did as MeteredAgreement['provider'];
  const isProvider = process.role === 'provider';
  return {
    participant,
    role: process.role,
    agreement: digestOf(row),
    agreementId: String(agreement['@id']),
    provider: isProvider ? own : peer,
    consumer: isProvider ? peer : own,
    assurance: data.assurance,
    price: data.price,
    pricePlan: await planOf(its, row),
    startedAt: agreedAtOf(row),
  };
};

/** From our last word until the peer confirmed it, which brings the agreement into force. */
const isBeingFinalized = ({ process }: NegotiationRow): boolean =>
  process.role === 'provider' && process.state === 'VERIFIED';

/** For transfers (dsp §6). */
export const transferAgreements = (its: Negotiations): Agreements => ({
  find: async (participant, id) => {
    const row = await findRow(its, participant, id);
    if (row === undefined || row.data.agreement === null) return undefined;
    const { dataset, assurance, status } = row.data;
    return {
      id,
      digest: digestOf(row),
      peer: row.peer,
      role: row.process.role,
      dataset,
      assurance,
      isInForce: status === 'in-force',
      overAfter: overAfterOf(row),
      isBeingFinalized: isBeingFinalized(row),
    };
  },
});

const isOver = (status: AgreementStatus): boolean => ['ended', 'superseded', 'void'].includes(status);

/** For the provider's data plane (wire §4): what was agreed, and where the bytes come from. */
export const accessTerms = (its: AgreementSources): Terms => ({
  find: async (participant, agreementId): Promise<AccessTerms | 'ended' | undefined> => {
    const row = await findRow(its, participant, agreementId);
    if (row === undefined || row.process.role !== 'provider' || row.data.agreement === null) return undefined;
    const { data } = row;
    if (isOver(data.status)) return 'ended';
    if (data.status !== 'in-force') return undefined;
    const asset = await its.catalog.read.asset(participant, data.dataset);
    const offer = await its.catalog.read.offer(participant, data.offerId);
    if (asset === undefined || offer === undefined) return undefined;
    return {
      agreementId,
      agreement: digestOf(row),
      consumer: row.peer,
      agreedAt: agreedAtOf(row),
      asset: data.dataset,
      upstream: asset.asset.upstream,
      rules: rulesOf(data.agreement?.agreement ?? {}),
      assurance: data.assurance,
      price: data.price,
      pricePlan: await planOf(its, row),
      silence: offer.silence,
    };
  },
});

const pageSize = 100;

/** The newest transfer that runs under an agreement. */
const newestStarted = async (
  { transfers }: AgreementSources,
  participant: ParticipantId,
  agreementId: string,
): Promise<TransferRow | undefined> => {
  let newest: TransferRow | undefined;
  for (let after = ''; ; ) {
    const group = { name: 'agreement', value: agreementId };
    const rows = await transfers.listGroup(participant, group, { after, limit: pageSize });
    for (const row of rows)
      if (row.process.role === 'consumer' && row.process.state === 'STARTED' && row.data.dataAddress !== null)
        newest = newest === undefined || row.createdAt >= newest.createdAt ? row : newest;
    const last = rows.at(-1);
    if (last === undefined || rows.length < pageSize) return newest;
    after = last.pid;
  }
};

const consumed = async (
  its: AgreementSources,
  participant: ParticipantId,
  agreementId: string,
): Promise<ConsumedTransfer | 'ended' | undefined> => {
  const row = await findRow(its, participant, agreementId);
  if (row === undefined || row.process.role !== 'consumer') return undefined;
  if (isOver(row.data.status)) return 'ended';
  const transfer = await newestStarted(its, participant, agreementId);
  const address = transfer?.data.dataAddress;
  if (transfer?.peerPid == null || address == null) return undefined;
  return {
    participant,
    agreementId,
    agreement: digestOf(row),
    provider: row.peer,
    transfer: transfer.peerPid,
    asset: row.data.dataset,
    assurance: row.data.assurance,
    price: row.data.price,
    pricePlan: await planOf(its, row),
    endpoint: endpointOf(address),
    overAfter: overAfterOf(row),
    properties: propertiesOf(address),
  };
};

const pushStateOf = (state: TransferRow['process']['state']): PushedTransfer['state'] => {
  if (state === 'STARTED') return 'started';
  return state === 'SUSPENDED' ? 'suspended' : 'not-started';
};

/** For the address that a push comes to. */
export const pushedTransfers = (its: AgreementSources): Pick<PushedTransfers, 'find'> => ({
  find: async (participant, pid): Promise<PushedTransfer | undefined> => {
    const transfer = await its.transfers.find(participant, pid);
    if (transfer?.process.role !== 'consumer' || transfer.data.inbox == null) return undefined;
    const row = await findRow(its, participant, transfer.data.agreementId);
    const { state } = transfer.process;
    if (row === undefined || state === 'COMPLETED' || state === 'TERMINATED') return undefined;
    const isInForce = row.data.status === 'in-force';
    return {
      transfer: transfer.peerPid ?? '', // not known before it is started
      agreement: digestOf(row),
      asset: row.data.dataset,
      price: row.data.price,
      secretHash: transfer.data.inbox.secretHash,
      state: isInForce ? pushStateOf(state) : 'ended',
    };
  },
});

const maxKept = 10_000;

/** For the gateway: asked for on every request, so the answer is kept until a process changes. */
export const consumedTransfers = (its: AgreementSources): ConsumedTransfers & { readonly changed: () => void } => {
  const kept = new Map<string, ReturnType<typeof consumed>>();
  return {
    changed: () => kept.clear(),
    find: (participant, agreementId) => {
      const key = `${participant} ${agreementId}`;
      const known = kept.get(key);
      if (known !== undefined) return known;
      if (kept.size >= maxKept) kept.clear();
      const asked = consumed(its, participant, agreementId);
      kept.set(key, asked);
      asked.catch(() => kept.delete(key));
      return asked;
    },
  };
};
