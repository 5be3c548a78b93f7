import { z } from 'zod';
import { dcpMessage, jwtProfile } from '../../contracts/dcp/messages.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import { accreditationCredential, type CredentialType, membershipCredential } from '../../contracts/vc/credential.ts';
import type { TaskHandler } from '../../kernel/sql/outbox.ts';
import type { IssuanceRequest, IssuedCredential, NoticeStore, StandingPublisher } from './ports.ts';
import { createIssuanceHandler, objectIdOf, type Requester, type RequestTools, receiveRequest } from './requests.ts';
import { type ChangeRequest, changeStanding, createStandingHandler, revokeGrant } from './standing.ts';
import { createStatusLists, type ServedList } from './status-lists.ts';

/** The issuer service (dcp §6) with its status lists: one for the broker, and one for each accreditor. */

export interface IssuerOptions extends RequestTools {
  readonly notices: NoticeStore;
}

/** A kind of credential, as the metadata and offers describe it. */
export interface CredentialObject {
  readonly id: string;
  readonly type: 'CredentialObject';
  readonly credentialType: CredentialType;
  readonly credentialSchema: string;
  readonly profile: string;
  readonly bindingMethods: readonly string[];
  readonly issuancePolicy: { readonly id: string; readonly input_descriptors: readonly never[] };
  readonly offerReason: string;
}

export interface CredentialPage {
  readonly after: string;
  readonly limit: number;
  readonly holder?: Did;
}

export interface Issuer {
  readonly did: Did;
  /** @returns the id of the request. @throws AppError `body-invalid`, `too-many-requests`. */
  readonly receive: (caller: Requester, message: Parameters<typeof receiveRequest>[2]) => Promise<string>;
  /** A request, for its holder alone. @throws AppError `not-found` for everybody else. */
  readonly request: (caller: Did, id: string) => Promise<IssuanceRequest>;
  readonly metadata: () => object;
  /** The JSON Schema of a kind of credential; undefined for any other name. */
  readonly schema: (type: string) => object | undefined;
  readonly statusList: (name: string) => Promise<ServedList>;
  /** @throws AppError `not-found`. */
  readonly credential: (id: string) => Promise<IssuedCredential>;
  readonly page: (page: CredentialPage) => Promise<readonly IssuedCredential[]>;
  /** @throws AppError `not-found`, `standing-final`. */
  readonly changeStanding: (id: string, request: ChangeRequest) => Promise<IssuedCredential>;
  readonly revokeGrant: (its: {
    readonly holder: Did;
    readonly grant: string;
    readonly reason: string;
  }) => Promise<void>;
  /** When the standing of a credential of this grant last changed, ms; 0 when there is none. */
  readonly lastChange: (its: { readonly holder: Did; readonly grant: string }) => Promise<number>;
  /** Removes requests that were settled long ago. */
  readonly tidy: () => Promise<void>;
  readonly issuanceHandler: TaskHandler;
  readonly standingHandler: (publisher: StandingPublisher) => TaskHandler;
}

const schemas = {
  MembershipCredential: membershipCredential,
  ApplicationAccreditationCredential: accreditationCredential,
} as const satisfies Record<CredentialType, z.ZodType>;

/** Settled requests are kept this long: a holder may ask what became of them. */
const keptMs = 30 * 86_400_000;

/** How an issuer describes one kind of credential; `id` is the stable one unless it is an offer of its own. */
export const describeCredential = (
  { did, origin }: { readonly did: Did; readonly origin: string },
  type: CredentialType,
  its: { readonly id?: string; readonly offerReason?: string } = {},
): CredentialObject => ({
  id: its.id ?? objectIdOf(did, type),
  type: 'CredentialObject',
  credentialType: type,
  credentialSchema: `${origin}/dcp/schemas/${type}`,
  profile: jwtProfile,
  bindingMethods: ['did:web'],
  issuancePolicy: { id: 'nothing-asked', input_descriptors: [] },
  offerReason: its.offerReason ?? 'reissue',
});

export const createIssuer = (options: IssuerOptions): Issuer => {
  const { keys, origin, grants, requests, credentials, notices, clock } = options;
  const { did } = keys;
  return {
    did,
    receive: (caller, message) => receiveRequest(options, caller, message),
    request: async (caller, id) => {
      const found = await requests.find(did, id);
      if (found?.holder !== caller) throw new AppError('not-found');
      return found;
    },
    metadata: () =>
      dcpMessage('IssuerMetadata', {
        issuer: did,
        credentialsSupported: grants.types.map((type) => describeCredential({ did, origin }, type)),
      }),
    schema: (type) => {
      const found = grants.types.find((one) => one === type);
      return found && z.toJSONSchema(schemas[found], { unrepresentable: 'any' });
    },
    statusList: createStatusLists(options),
    credential: async (id) => {
      const found = await credentials.find(did, id);
      if (found === undefined) throw new AppError('not-found', { detail: `${id} was not issued here` });
      return found;
    },
    page: (page) => credentials.page(did, page),
    changeStanding: (id, request) => changeStanding(options, id, request),
    revokeGrant: (its) => revokeGrant(options, its),
    lastChange: async ({ holder, grant }) =>
      Math.max(0, ...(await credentials.ofGrant(did, holder, grant)).map(({ standingAt }) => standingAt)),
    tidy: () => requests.forget(did, clock.now() - keptMs),
    issuanceHandler: createIssuanceHandler(options),
    standingHandler: (publisher) => createStandingHandler({ keys, notices }, publisher),
  };
};
