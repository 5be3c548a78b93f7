import { AppError, type Fault } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json, JsonObject } from '../../contracts/json.ts';
import { pricePlanDigest } from '../../contracts/ledger/price-plan.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { policyFaults } from '../../policies/compile.ts';
import type { Facts } from '../../policies/facts.ts';
import type { Mandate } from '../../policies/negotiate.ts';
import { peerRefused } from '../exchange/refusal.ts';
import type { ProcessFeed } from './feed.ts';
import { bestFirst, judgeOffer } from './judging.pure.ts';
import { ownFacts } from './own-facts.ts';
import type {
  AcquisitionStore,
  FoundDataset,
  FoundOffer,
  NegotiationRecord,
  Negotiations,
  OtherCatalogs,
  ProviderBases,
  StoreSearch,
  TransferRecord,
  Transfers,
  Wallet,
} from './ports.ts';

/**
 * From "this dataset" to "here it can be fetched": find the offer, use an agreement that is in force or negotiate one, and
 * have a transfer started. Each step is a process of its own that goes on by itself; we only wait for it, and whoever
 * asks again finds what was begun.
 */

export interface Acquisition {
  readonly dataset: string;
  readonly provider?: Did | undefined;
  readonly offer?: string | undefined;
  readonly purpose?: string | undefined;
  readonly application?: string | undefined;
  readonly ask?: JsonObject | undefined;
  readonly mandate?: WantedMandate | undefined;
  /** Have it pushed; done when it is all here. */
  readonly push?: boolean | undefined;
  readonly timeoutSeconds?: number | undefined;
}

/** A mandate as an owner gives it: without prices, only that of the offer may be agreed to. */
export interface WantedMandate {
  readonly least: JsonObject;
  readonly prices?: readonly string[] | undefined;
}

export interface Acquired {
  readonly provider: Did;
  readonly dataset: string;
  readonly agreementId: string;
  readonly agreementDigest: string;
  readonly transfer: string;
  /** Where an own application fetches it: the gateway, and not the provider. */
  readonly dataUrl: string;
  /** Whether the agreement was there already. */
  readonly reused: boolean;
}

export interface AcquiringOptions {
  readonly catalogs: OtherCatalogs;
  readonly store: StoreSearch;
  readonly bases: ProviderBases;
  readonly negotiations: Negotiations;
  readonly transfers: Transfers;
  readonly acquisitions: AcquisitionStore;
  readonly wallet: Pick<Wallet, 'facts'>;
  readonly feed: ProcessFeed;
  /** One at a time for the same dataset of the same provider, in all processes: the second finds what the first began. */
  readonly inTurn: <Value>(key: string, work: () => Promise<Value>) => Promise<Value>;
  readonly clock: Clock;
  /** Origin of the gateway for own applications. */
  readonly gatewayUrl: () => string;
}

interface Wish {
  readonly provider: Did;
  readonly dataset: string;
  /** By its id, or as it was shown. */
  readonly offer?: string | FoundOffer | undefined;
  readonly ask?: JsonObject | undefined;
  readonly mandate?: WantedMandate | 'operator' | undefined;
  readonly push?: boolean | undefined;
  /** The agreement that the new one takes the place of. */
  readonly amends?: string | undefined;
}

/** What an agreement is to be replaced by: an offer of its dataset, and how it is asked for. */
export type Replacement = Pick<Wish, 'ask' | 'mandate'> & { readonly offer?: string | undefined };

/** As provider, to a consumer who has not asked. */
interface Invitation {
  readonly consumer: Did;
  readonly dataset: string;
  readonly offer: string;
}

export interface Acquiring {
  readonly acquire: (participant: ParticipantId, acquisition: Acquisition) => Promise<Acquired>;
  /** Begins a negotiation, remembered so that an acquisition finds it. */
  readonly begin: (participant: ParticipantId, wish: Wish) => Promise<NegotiationRecord>;
  /** Offers a consumer what it has not asked for. */
  readonly invite: (participant: ParticipantId, invitation: Invitation) => Promise<NegotiationRecord>;
  /**
   * Begins a negotiation whose agreement takes the place of one in force (dsp §12.3), as whichever side we are in it.
   *
   * @throws AppError `not-found`, `agreement-ended`, `body-invalid` for a provider that names no offer.
   */
  readonly amend: (
    participant: ParticipantId,
    agreementId: string,
    replacement: Replacement,
  ) => Promise<NegotiationRecord>;
  /** Begins a transfer under an agreement, remembered likewise. */
  readonly beginTransfer: (participant: ParticipantId, agreementId: string, push?: boolean) => Promise<TransferRecord>;
}

const defaultTimeoutMs = 30_000;
const maxCandidates = 20;
const maxStorePages = 5;
/** Longer questions the store does not read. */
const maxQuestion = 300;

const formats = { cosigned: 'StekkerHttp-PULL', 'plain-dsp': 'HttpData-PULL' } as const;
const pushFormat = 'HttpData-PUSH';

/** Who offers a dataset, by the broker's store; one, or the caller must say which. */
const findProvider = async ({ store }: AcquiringOptions, dataset: string): Promise<Did> => {
  const providers = new Set<Did>();
  let cursor: string | undefined = '';
  for (let page = 0; page < maxStorePages && cursor !== undefined; page += 1) {
    const found: Awaited<ReturnType<StoreSearch['search']>> = await store.search({
      q: dataset.slice(0, maxQuestion),
      cursor,
    });
    for (const entry of found.entries) if (entry.dataset.id === dataset) providers.add(entry.provider.did);
    cursor = found.next;
  }
  const [only, ...others] = providers;
  if (only === undefined)
    throw new AppError('not-found', { detail: `the broker's store has no dataset ${dataset}; name its provider` });
  if (others.length > 0) {
    const message = `several offer this dataset: ${[...providers].join(', ')}; choose one`;
    throw new AppError('body-invalid', { faults: [{ path: '/provider', message }] });
  }
  return only;
};

/** The offer that was named, else the one that fits us best. */
const chooseOffer = (dataset: FoundDataset, wanted: string | undefined, facts: Facts): FoundOffer => {
  const judged = dataset.offers.map((offer) => ({
    offer,
    judgement: judgeOffer(offer.rules, { ...facts, ...(offer.price === '' ? {} : { pricePlan: offer.price }) }),
  }));
  const found = wanted === undefined ? bestFirst(judged)[0] : judged.find(({ offer }) => offer.id === wanted);
  if (found !== undefined) return found.offer;
  const [blocked] = dataset.unreadable.filter(({ id }) => wanted === undefined || id === wanted);
  if (blocked !== undefined)
    throw new AppError('offer-refused', { detail: `${blocked.id} cannot be asked for: ${blocked.why}` });
  throw new AppError('not-found', { detail: `${dataset.id} has no offer ${wanted ?? ''} for us` });
};

/** @throws AppError `offer-refused` for terms that we could not keep to. */
const mustBeReadable = (offer: FoundOffer): FoundOffer => {
  const faults = policyFaults(offer.rules);
  if (faults.length === 0) return offer;
  const detail = `${offer.id} has terms that nobody here can evaluate: ${faults.map(({ message }) => message).join('; ')}`;
  throw new AppError('offer-refused', { detail, faults });
};

/** An offer that somebody says was shown: its plan is the one that it names. */
const mustNamePlan = (offer: FoundOffer): FoundOffer => {
  const { plan, price } = offer;
  if (plan === null || pricePlanDigest(nodeCrypto, plan) === price) return offer;
  throw new AppError('body-invalid', {
    faults: [{ path: '/offer/price', message: 'is not the price plan that priceDigest names' }],
  });
};

/** What is asked for: the offer as it was shown, else one that the catalog has now. */
const offerFor = async (
  { catalogs }: AcquiringOptions,
  participant: ParticipantId,
  { provider, dataset, offer, push }: Wish,
  facts: () => Promise<Facts>,
): Promise<FoundOffer> => {
  if (typeof offer === 'object') return mustBeReadable(mustNamePlan(offer));
  const found = await catalogs.dataset(participant, provider, dataset);
  const offers = push === true ? found.offers.filter(({ assurance }) => assurance === 'plain-dsp') : found.offers;
  return mustBeReadable(chooseOffer({ ...found, offers }, offer, await facts()));
};

const listOf = (value: Json | undefined): readonly Json[] => (Array.isArray(value) ? value : []);

/** What the owner allows; whoever asks for an offer takes its own duties on. */
const mandateFor = (offer: FoundOffer, wanted: Wish['mandate']): Mandate | 'operator' | undefined => {
  if (wanted === undefined || wanted === 'operator') return wanted;
  const obligation = [...listOf(wanted.least.obligation), ...listOf(offer.rules.obligation)];
  const least = { ...wanted.least, ...(obligation.length === 0 ? {} : { obligation }) };
  return { least, prices: wanted.prices ?? (offer.price === '' ? [] : [offer.price]) };
};

const mustBeEvaluable = ({ ask, mandate }: Wish): void => {
  const at = (path: string, rules: JsonObject | undefined): Fault[] =>
    rules === undefined ? [] : policyFaults(rules).map((fault) => ({ ...fault, path: `${path}${fault.path}` }));
  const least = mandate === undefined || mandate === 'operator' ? undefined : mandate.least;
  const faults = [...at('/ask', ask), ...at('/mandate/least', least)];
  if (faults.length > 0) throw new AppError('body-invalid', { faults });
};

const begin = async (
  options: AcquiringOptions,
  participant: ParticipantId,
  wish: Wish,
  facts: () => Promise<Facts>,
): Promise<NegotiationRecord> => {
  const { catalogs, bases, negotiations, acquisitions } = options;
  const { provider, dataset, ask, amends } = wish;
  mustBeEvaluable(wish);
  const offer = await offerFor(options, participant, wish, facts);
  await catalogs.pricePlan(participant, provider, offer); // nobody agrees to a price that was not shown
  const { rules, assurance, price } = offer;
  const mandate = mandateFor(offer, wish.mandate);
  const terms = { participant, provider, dataset, offerId: offer.id, rules, assurance, price, ask, mandate, amends };
  const row = await negotiations.request({ ...terms, providerBase: await bases.base(provider) });
  await acquisitions.begun({ participant, provider, dataset, negotiation: row.pid });
  return row;
};

const amend = async (
  options: AcquiringOptions,
  participant: ParticipantId,
  agreementId: string,
  replacement: Replacement,
): Promise<NegotiationRecord> => {
  const row = await options.negotiations.findByAgreement(participant, agreementId);
  if (row === undefined) throw new AppError('not-found');
  if (row.data.status !== 'in-force') throw new AppError('agreement-ended');
  const { peer } = row;
  const { dataset } = row.data;
  if (row.process.role === 'consumer') {
    const wish = { ...replacement, provider: peer, dataset, amends: agreementId };
    return begin(options, participant, wish, () => ownFacts(options, participant, {}));
  }
  const fault = (path: string, message: string) => new AppError('body-invalid', { faults: [{ path, message }] });
  if (replacement.ask !== undefined || replacement.mandate !== undefined)
    throw fault('/ask', 'a provider offers, and does not ask');
  if (replacement.offer === undefined) throw fault('/offer', 'is needed: a provider says what it offers instead');
  const consumerBase = await options.bases.base(peer);
  const terms = { participant, consumer: peer, consumerBase, dataset, offerId: replacement.offer, amends: agreementId };
  return options.negotiations.offer(terms);
};

/** What another process did may not be told here. */
const lookAgainMs = 1_000;

/** Waits until a process is where it should be, told by the feed; undefined when the time is over. */
const waitFor = async <Row>(
  { feed, clock }: AcquiringOptions,
  place: { readonly participant: ParticipantId; readonly pid: string; readonly until: number },
  look: () => Promise<Row>,
  isThere: (row: Row) => boolean,
): Promise<Row | undefined> => {
  let changed = Promise.withResolvers<void>();
  const stop = feed.subscribe(place.participant, ({ notice }) => {
    if (notice.pid === place.pid) changed.resolve();
  });
  try {
    for (;;) {
      changed = Promise.withResolvers<void>();
      const row = await look();
      if (isThere(row)) return row;
      const left = place.until - clock.now();
      if (left <= 0) return undefined;
      const slept = new AbortController();
      await Promise.race([changed.promise, clock.sleep(Math.min(left, lookAgainMs), slept.signal)]);
      slept.abort();
    }
  } finally {
    stop();
  }
};

const tooLong = (what: string, row: { readonly pid: string; readonly process: { readonly state: string } }): AppError =>
  new AppError('not-yet', {
    detail: `${what} ${row.pid} is still ${row.process.state}; it goes on, ask again`,
    retryAfterSeconds: 1,
  });

const ended = (peer: Did, ending: NegotiationRecord['data']['ending'], what: string): AppError => {
  if (ending?.by === 'peer') return peerRefused(peer, ending, what);
  const why = ending === null ? '' : `: ${ending.code} ${JSON.stringify(ending.reason)}`;
  return new AppError('agreement-refused', { detail: `${what} with ${peer} was ended here${why}` });
};

const isSettled = ({ process, data }: NegotiationRecord): boolean =>
  process.state === 'TERMINATED' ||
  (process.state === 'FINALIZED' && data.status !== 'none' && data.status !== 'signed');

const awaitAgreement = async (
  options: AcquiringOptions,
  participant: ParticipantId,
  pid: string,
  until: number,
): Promise<NegotiationRecord> => {
  const look = () => options.negotiations.find(participant, pid);
  const row = await waitFor(options, { participant, pid, until }, look, isSettled);
  if (row === undefined) throw tooLong('the negotiation', await look());
  if (row.process.state === 'TERMINATED') throw ended(row.peer, row.data.ending, 'the negotiation');
  if (row.data.status !== 'in-force') throw new AppError('agreement-ended');
  return row;
};

const isUseful = ({ process, data }: NegotiationRecord, offer: string | undefined, push = false): boolean => {
  if (push && data.assurance !== 'plain-dsp') return false;
  if (process.state === 'TERMINATED' || ['ended', 'superseded', 'void'].includes(data.status)) return false;
  return offer === undefined || data.offerId === offer;
};

/** What was begun before for this dataset and still stands: an agreement in force, else a negotiation under way. */
const findBegun = async (
  { acquisitions, negotiations }: AcquiringOptions,
  participant: ParticipantId,
  wish: Pick<Acquisition, 'offer' | 'push' | 'dataset'> & { readonly provider: Did },
): Promise<NegotiationRecord | undefined> => {
  const candidates = await acquisitions.candidates(participant, wish.provider, wish.dataset, maxCandidates);
  const standing: NegotiationRecord[] = [];
  for (const { negotiation } of candidates) {
    const row = await negotiations.find(participant, negotiation);
    if (isUseful(row, undefined)) standing.push(row);
    else await acquisitions.forget(participant, negotiation);
  }
  const fitting = standing.filter((row) => isUseful(row, wish.offer, wish.push));
  return fitting.find((row) => row.data.status === 'in-force') ?? fitting[0];
};

const isRunning = ({ process }: TransferRecord): boolean =>
  process.state !== 'TERMINATED' && process.state !== 'COMPLETED' && process.state !== 'SUSPENDED';

/** Asks the provider of an agreement for a transfer, in the format that its assurance has (wire §4). */
const beginTransfer = async (
  { negotiations, transfers, acquisitions, bases }: AcquiringOptions,
  participant: ParticipantId,
  agreementId: string,
  push: boolean,
): Promise<TransferRecord> => {
  const row = await negotiations.findByAgreement(participant, agreementId);
  if (row === undefined || row.process.role !== 'consumer') throw new AppError('not-found');
  if (push && row.data.assurance !== 'plain-dsp') {
    const message = 'only what is agreed to as plain-dsp is pushed';
    throw new AppError('body-invalid', { faults: [{ path: '/push', message }] });
  }
  const format = push ? pushFormat : formats[row.data.assurance];
  const terms = { participant, agreementId, format, providerBase: await bases.base(row.peer) };
  const begun = await transfers.request(terms);
  if (!push) await acquisitions.transferred(participant, row.pid, begun.pid);
  return begun;
};

/** The transfer that runs under an agreement, or a new one. */
const findOrBegin = async (
  options: AcquiringOptions,
  participant: ParticipantId,
  row: NegotiationRecord,
  push: boolean,
): Promise<TransferRecord> => {
  const { transfers, acquisitions } = options;
  const candidates = await acquisitions.candidates(participant, row.peer, row.data.dataset, maxCandidates);
  const transfer = candidates.find(({ negotiation }) => negotiation === row.pid)?.transfer ?? null;
  const known = transfer === null ? undefined : await transfers.find(participant, transfer);
  if (!push && known !== undefined && isRunning(known)) return known;
  return beginTransfer(options, participant, agreementIdOf(row), push);
};

const awaitTransfer = async (
  options: AcquiringOptions,
  participant: ParticipantId,
  row: NegotiationRecord,
  place: { readonly pid: string; readonly until: number; readonly goal: 'STARTED' | 'COMPLETED' },
): Promise<TransferRecord> => {
  const look = () => options.transfers.find(participant, place.pid);
  const found = await waitFor(
    options,
    { ...place, participant },
    look,
    (one) => one.process.state === place.goal || !isRunning(one),
  );
  if (found === undefined) throw tooLong('the transfer', await look());
  if (found.process.state !== place.goal) throw ended(row.peer, found.data.ending, 'the transfer');
  return found;
};

const agreementIdOf = ({ data }: NegotiationRecord): string => {
  const id = data.agreement?.agreement['@id'];
  if (typeof id !== 'string') throw new AppError('invariant-broken', { detail: 'an agreement in force without an id' });
  return id;
};

export const createAcquiring = (options: AcquiringOptions): Acquiring => {
  const { inTurn } = options;
  const acquire = async (participant: ParticipantId, wish: Acquisition): Promise<Acquired> => {
    const until = options.clock.now() + (wish.timeoutSeconds ?? defaultTimeoutMs / 1_000) * 1_000;
    const { dataset, offer, ask, mandate, push = false } = wish;
    const provider = wish.provider ?? (await findProvider(options, dataset));
    const facts = () => ownFacts(options, participant, wish);
    const turn = JSON.stringify([participant, provider, dataset]);
    const { begun, reused } = await inTurn(turn, async () => {
      const found = await findBegun(options, participant, { provider, dataset, offer, push });
      const row = found ?? (await begin(options, participant, { provider, dataset, offer, ask, mandate, push }, facts));
      return { begun: row, reused: found?.data.status === 'in-force' };
    });
    const row = await awaitAgreement(options, participant, begun.pid, until);
    const { pid } = await inTurn(turn, () => findOrBegin(options, participant, row, push));
    const goal = push ? 'COMPLETED' : 'STARTED';
    const transfer = await awaitTransfer(options, participant, row, { pid, until, goal });
    const agreementId = agreementIdOf(row);
    return {
      provider,
      dataset,
      agreementId,
      agreementDigest: row.data.agreement?.digest ?? '',
      transfer: transfer.pid,
      dataUrl: `${options.gatewayUrl()}/data/${encodeURIComponent(agreementId)}/`,
      reused,
    };
  };
  return {
    acquire,
    beginTransfer: (participant, agreementId, push = false) => beginTransfer(options, participant, agreementId, push),
    invite: async (participant, { consumer, dataset, offer }) => {
      const consumerBase = await options.bases.base(consumer);
      return options.negotiations.offer({ participant, consumer, consumerBase, dataset, offerId: offer });
    },
    amend: (participant, agreementId, replacement) => amend(options, participant, agreementId, replacement),
    begin: (participant, wish) => begin(options, participant, wish, () => ownFacts(options, participant, {})),
  };
};
