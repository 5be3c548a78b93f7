import { toBase64Url } from '../../contracts/bytes.ts';
import { buildDataAddress, type DataAddress } from '../../contracts/dsp/transfer.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Random } from '../../kernel/random.ts';
import { createTurnsByKey } from '../../kernel/turns.ts';
import type { CompiledPolicy } from '../../policies/compile.ts';
import type { AccessTerms, Grant, GrantStore, PeerFacts, Source, Sources, Terms } from './ports.ts';
import type { ProofKey } from './proof.ts';
import type { Relay } from './relay.ts';
import {
  type AccessFacts,
  compileTerms,
  countsAccesses,
  countsItems,
  factsFor,
  maxTokenMs,
  needsAccreditation,
  type Refusal,
} from './rules.ts';

/**
 * Transfers that are open (wire §4). What opens them is stored as a hash; all open ones are in memory, because every access
 * asks whether its transfer still is. A grant is voided by the next one, and by closing.
 */

/** For whom an access is: one for each verified token, with everything that is fixed as long as the token lives. */
export interface Holder {
  readonly transfer: OpenTransfer;
  readonly application: string;
  readonly purpose: string;
  readonly run: string;
  /** Thumbprint of the key that each request must prove; empty under `plain-dsp`. */
  readonly jkt: string;
  /** ms */
  readonly expiresAt: number;
  /** Whose standing each access rests on: credentials, the consumer, the agreement. */
  readonly subjects: readonly string[];
  /** Filled in for each decision and read at once. */
  readonly facts: AccessFacts;
  /** The proof header seen last and its key: a consumer sends the same one each time. */
  proofHeader: string;
  proofKey: ProofKey | null;
}

/** An access that is under way. */
export interface Running {
  readonly holder: Holder;
  readonly relay: Relay;
}

export interface OpenTransfer {
  readonly grant: Grant;
  readonly terms: AccessTerms;
  readonly atToken: CompiledPolicy;
  readonly atAccess: CompiledPolicy;
  readonly needsAccreditation: boolean;
  readonly countsItems: boolean;
  /** Whether its policy counts accesses: then each one is counted before it is judged. */
  readonly countsAccesses: boolean;
  readonly source: Source;
  readonly running: Set<Running>;
  /** Under `plain-dsp`: for whom its bearer token is. */
  bearer: Holder | null;
  isOpen: boolean;
}

/** Others in this process that serve data. What a call tells is known to all of them when it returns. */
export interface GrantWatch {
  readonly opened: (grant: Grant, terms: AccessTerms) => Promise<void>;
  readonly closed: (participant: ParticipantId, transfer: string) => Promise<void>;
}

export interface GrantsOptions {
  /** Told after each opening and closing: other processes serve the same transfers. */
  readonly changed?: (participant: ParticipantId, transfer: string) => void;
  readonly watch?: GrantWatch;
  readonly store: GrantStore;
  readonly terms: Terms;
  readonly peerFacts: PeerFacts;
  readonly sources: Sources;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Origin of the data plane, without trailing slash. */
  readonly dataOrigin: string;
  readonly tokenEndpoint: (participant: ParticipantId) => string;
}

/** What the transfer of a provider asks for. */
export interface OpenRequest {
  readonly participant: ParticipantId;
  /** providerPid */
  readonly transfer: string;
  readonly agreementId: string;
  readonly consumer: Did;
}

export interface Grants {
  /** A fresh data address; what the transfer had before is void. @throws AppError `agreement-ended`, `policy-invalid`, `address-refused`. */
  readonly open: (request: OpenRequest) => Promise<DataAddress>;
  /** When it returns, no new access is served and running ones were cut. */
  readonly close: (participant: ParticipantId, transfer: string) => Promise<void>;
  /** The same for every transfer under an agreement; how many there were. */
  readonly endAgreement: (participant: ParticipantId, agreementId: string) => Promise<number>;
  /** For a push: everything that an access is judged by, and open to nobody. @throws AppError `agreement-ended`. */
  readonly prepare: (request: OpenRequest) => Promise<OpenTransfer>;
  readonly find: (transfer: string) => OpenTransfer | undefined;
  /** By the digest of a grant or bearer token. */
  readonly findBySecret: (secretHash: string) => OpenTransfer | undefined;
  readonly all: () => Iterable<OpenTransfer>;
  /** Takes over what another process did to a transfer: opened it anew, or closed it. */
  readonly refresh: (participant: ParticipantId, transfer: string) => Promise<void>;
  /** The same for all of them: word of other processes may have been lost. */
  readonly refreshAll: () => Promise<void>;
  /** Takes in a transfer that was opened elsewhere, in place of what it had before. */
  readonly take: (grant: Grant) => Promise<void>;
  /** Brings back what was open when the program stopped. */
  readonly load: () => Promise<void>;
}

const closed: Refusal = { error: new AppError('token-invalid', { detail: 'the transfer was closed' }) };

export const secretHashOf = (secret: string): string => toBase64Url(nodeCrypto.sha256(Buffer.from(secret, 'utf8')));

const plainType = 'https://w3id.org/idsa/v4.1/HTTP';
const edc = 'https://w3id.org/edc/v0.0.1/ns/';

const addressOf = (its: GrantsOptions, request: OpenRequest, terms: AccessTerms, secret: string): DataAddress => {
  const endpoint = `${its.dataOrigin}/${request.transfer}/`;
  if (terms.assurance === 'cosigned') {
    const tokenEndpoint = its.tokenEndpoint(request.participant);
    return buildDataAddress('urn:stekker:1:http', endpoint, { tokenEndpoint, grant: secret });
  }
  return buildDataAddress(plainType, endpoint, {
    authorization: secret,
    authType: 'bearer',
    [`${edc}endpoint`]: endpoint,
    [`${edc}authorization`]: secret,
    [`${edc}authType`]: 'bearer',
  });
};

const inForce = async (its: GrantsOptions, participant: ParticipantId, agreementId: string): Promise<AccessTerms> => {
  const terms = await its.terms.find(participant, agreementId);
  if (terms === undefined || terms === 'ended') throw new AppError('agreement-ended');
  return terms;
};

/** Whom a bearer token serves: nobody proved anything but membership, at an earlier time (wire §3). */
const bearerHolder = async (its: GrantsOptions, transfer: OpenTransfer): Promise<Holder> => {
  const { grant, terms } = transfer;
  const credentials = await its.peerFacts.of(grant.participant, grant.consumer);
  return {
    transfer,
    application: '',
    purpose: '',
    run: '',
    jkt: '',
    expiresAt: Math.min(grant.expiresAt ?? Number.MAX_SAFE_INTEGER, credentials?.validUntil ?? Number.MAX_SAFE_INTEGER),
    subjects: [...(credentials?.credentials ?? []), grant.consumer, terms.agreement],
    facts: factsFor(terms, credentials, { application: '', purpose: '' }),
    proofHeader: '',
    proofKey: null,
  };
};

/** Everything that is decided once, so that an access only looks. */
const prepare = async (its: GrantsOptions, grant: Grant, terms: AccessTerms): Promise<OpenTransfer> => {
  const made: OpenTransfer = {
    grant,
    terms,
    atToken: compileTerms(terms.rules, 'token'),
    atAccess: compileTerms(terms.rules, 'access'),
    needsAccreditation: needsAccreditation(terms.rules),
    countsItems: countsItems(terms),
    countsAccesses: countsAccesses(terms.rules),
    source: its.sources.open(terms.upstream),
    running: new Set(),
    bearer: null,
    isOpen: true,
  };
  if (terms.assurance === 'plain-dsp') made.bearer = await bearerHolder(its, made);
  return made;
};

/** What its row opens; nothing when the agreement does not stand any more. */
const restored = async (its: GrantsOptions, grant: Grant): Promise<OpenTransfer | undefined> => {
  try {
    return await prepare(its, grant, await inForce(its, grant.participant, grant.agreementId));
  } catch (error) {
    its.log.warn({ error, transfer: grant.transfer }, 'a transfer that was open cannot be served any more');
    if (error instanceof AppError && error.code === 'agreement-ended')
      await its.store.remove(grant.participant, grant.transfer);
    return undefined;
  }
};

/** Reads all rows once, and then anew what they say of a transfer that stands otherwise here. */
const refreshChanged = async (
  store: GrantStore,
  known: ReadonlyMap<string, OpenTransfer>,
  refresh: Grants['refresh'],
): Promise<void> => {
  const rows = new Map((await store.all()).map((grant) => [grant.transfer, grant]));
  const all = [...[...known.values()].map(({ grant }) => grant), ...rows.values()];
  const isChanged = ({ transfer }: Grant) => rows.get(transfer)?.secretHash !== known.get(transfer)?.grant.secretHash;
  for (const { participant, transfer } of all.filter(isChanged)) await refresh(participant, transfer);
};

const termsFor = async (its: GrantsOptions, request: OpenRequest): Promise<AccessTerms> => {
  const terms = await inForce(its, request.participant, request.agreementId);
  if (terms.consumer !== request.consumer)
    throw new AppError('invariant-broken', { detail: 'another consumer agreed' });
  return terms;
};

/** Those that are open, by their pid and by the digest of what opens them. */
const createOpenTransfers = () => {
  const byTransfer = new Map<string, OpenTransfer>();
  const bySecret = new Map<string, OpenTransfer>();
  return {
    byTransfer,
    bySecret,
    enter: (transfer: OpenTransfer): void => {
      byTransfer.set(transfer.grant.transfer, transfer);
      bySecret.set(transfer.grant.secretHash, transfer);
    },
    leave: (participant: ParticipantId, pid: string): void => {
      const transfer = byTransfer.get(pid);
      if (transfer?.grant.participant !== participant) return;
      transfer.isOpen = false;
      byTransfer.delete(pid);
      bySecret.delete(transfer.grant.secretHash);
      for (const { relay } of transfer.running) relay.cut(closed);
    },
  };
};

export const createGrants = (its: GrantsOptions): Grants => {
  const { store, clock, random } = its;
  const { byTransfer, bySecret, enter, leave } = createOpenTransfers();
  /** What concerns one transfer, one after the other. */
  const inTurn = createTurnsByKey();

  const open = async (request: OpenRequest): Promise<DataAddress> => {
    const { participant, agreementId } = request;
    const terms = await termsFor(its, request);
    const secret = toBase64Url(random.bytes(32));
    const openedAt = clock.now();
    const expiresAt = terms.assurance === 'cosigned' ? null : openedAt + maxTokenMs;
    const grant: Grant = { ...request, secretHash: secretHashOf(secret), expiresAt, openedAt };
    const transfer = await prepare(its, grant, terms);
    leave(participant, request.transfer);
    await store.put(grant);
    // It may have ended while the grant was written, after the look for transfers that are open.
    await inForce(its, participant, agreementId).catch(async (error: unknown) => {
      await store.remove(participant, request.transfer);
      throw error;
    });
    enter(transfer);
    its.changed?.(participant, request.transfer);
    await its.watch?.opened(grant, terms);
    return addressOf(its, request, terms, secret);
  };

  const close = (participant: ParticipantId, pid: string): Promise<void> => {
    leave(participant, pid);
    const told = its.watch?.closed(participant, pid);
    return inTurn(pid, async () => {
      leave(participant, pid);
      await store.remove(participant, pid);
      its.changed?.(participant, pid);
      await told;
      await its.watch?.closed(participant, pid); // it may have been opened behind the first word
    });
  };

  const refresh = (participant: ParticipantId, pid: string): Promise<void> =>
    inTurn(pid, async () => {
      const grant = await store.find(participant, pid);
      if (grant?.secretHash === byTransfer.get(pid)?.grant.secretHash) return;
      leave(participant, pid);
      const transfer = grant && (await restored(its, grant));
      if (transfer === undefined) {
        await its.watch?.closed(participant, pid);
        return;
      }
      enter(transfer);
      await its.watch?.opened(transfer.grant, transfer.terms);
    });

  return {
    refresh,
    refreshAll: () => refreshChanged(store, byTransfer, refresh),
    open: (request) => inTurn(request.transfer, () => open(request)),
    close,
    endAgreement: async (participant, agreementId) => {
      const own = [...byTransfer.values()].map(({ grant }) => grant);
      const here = own.filter((grant) => grant.participant === participant && grant.agreementId === agreementId);
      const closing = here.map(({ transfer }) => close(participant, transfer));
      // And those that another process opened a moment ago, of which no word came yet.
      const [rows] = await Promise.all([store.ofAgreement(participant, agreementId), ...closing]);
      const others = rows.filter(({ transfer }) => !here.some((grant) => grant.transfer === transfer));
      await Promise.all(others.map(({ transfer }) => close(participant, transfer)));
      return here.length + others.length;
    },
    prepare: async (request) => {
      const terms = await termsFor(its, request);
      return prepare(its, { ...request, secretHash: '', expiresAt: null, openedAt: clock.now() }, terms);
    },
    find: (transfer) => byTransfer.get(transfer),
    findBySecret: (secretHash) => bySecret.get(secretHash),
    all: () => byTransfer.values(),
    take: (grant) =>
      inTurn(grant.transfer, async () => {
        const terms = await inForce(its, grant.participant, grant.agreementId);
        const transfer = await prepare(its, grant, terms);
        leave(grant.participant, grant.transfer);
        enter(transfer);
      }),
    load: async () => {
      for (const grant of await store.all()) {
        const transfer = await restored(its, grant);
        if (transfer !== undefined) enter(transfer);
      }
    },
  };
};
