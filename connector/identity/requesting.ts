import { dcpMessage, issuerMetadata, jwtProfile } from '../../contracts/dcp/messages.ts';
import { scopeOfType } from '../../contracts/dcp/scope.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { parseJson } from '../../contracts/json.ts';
import type { CredentialType } from '../../contracts/vc/credential.ts';
import type { GuardedClient } from '../../kernel/http/client.ts';
import type { TaskHandler, TaskResult } from '../../kernel/sql/outbox.ts';
import type { CredentialOffer, CredentialRequest } from './ports.ts';
import { asksForSame, knownType, mayAskAgain, offerTopic, requestTopic } from './rules.ts';
import { tokenHash, type WalletOptions } from './wallet.ts';

/** Asks issuers for credentials (dcp §6): requests and offers are carried out by the outbox, until there is an answer. */

export interface RequestingOptions extends WalletOptions {
  readonly client: Pick<GuardedClient, 'request'>;
  /** After a request or an offer was stored. */
  readonly wake: () => void;
}

export interface CredentialRequests {
  /**
   * Asks an issuer for a credential. One that is under way is not asked for again.
   *
   * @throws AppError `forbidden` for an issuer whose credentials of this type do not count here.
   */
  readonly request: (
    participant: ParticipantId,
    wanted: { readonly issuer: Did; readonly type: CredentialType; readonly object?: string },
  ) => Promise<CredentialRequest>;
  /** Handlers of the outbox, by topic. */
  readonly handlers: Readonly<Record<string, TaskHandler>>;
}

/** A request without an answer may be repeated after this time. */
const openMs = 3_600_000;
const timeoutMs = 20_000;
const maxBytes = 262_144;
const maxAttempts = 60;

type Supported = readonly { readonly id: string; readonly type: CredentialType }[];

const serviceOf = async ({ resolver }: RequestingOptions, issuer: Did): Promise<string> => {
  const endpoint = (await resolver.resolve(issuer))?.endpoint('IssuerService');
  if (endpoint === undefined) throw new AppError('fetch-failed', { detail: `${issuer} names no issuer service` });
  return endpoint.replace(/\/$/, '');
};

/** What an issuer can issue in our profile. */
const supportedBy = async (its: RequestingOptions, issuer: Did): Promise<Supported> => {
  const answer = await its.client.request({
    method: 'GET',
    url: `${await serviceOf(its, issuer)}/metadata`,
    headers: { accept: 'application/json' },
    timeoutMs,
    maxBytes,
  });
  const body = answer.status === 200 ? parseJson(answer.body, { maxBytes, maxDepth: 16 }) : undefined;
  const read = issuerMetadata.safeParse(body);
  if (!read.success || read.data.issuer !== issuer)
    throw new AppError('fetch-failed', { detail: `${issuer} gives no metadata that can be read` });
  return read.data.credentialsSupported.flatMap(({ id, credentialType, profile }) => {
    const type = knownType(credentialType);
    return type === undefined || profile !== jwtProfile ? [] : [{ id, type }];
  });
};

type Wanted = Pick<CredentialRequest, 'participant' | 'holderPid' | 'issuer' | 'type' | 'object'>;

/** Stores a request; one of the same name stays as it is. */
const addRequest = async (its: RequestingOptions, wanted: Wanted): Promise<CredentialRequest> => {
  const now = its.clock.now();
  const fresh = { status: 'OPEN', statusUrl: null, tokens: [], reason: '', createdAt: now, updatedAt: now } as const;
  const request = { ...wanted, ...fresh };
  await its.store.addRequest(request);
  its.wake();
  return request;
};

const reject = async (its: RequestingOptions, { participant, holderPid }: CredentialRequest, reason: string) => {
  const at = its.clock.now();
  await its.store.settle({ participant, holderPid, status: 'REJECTED', reason, credentials: [], at });
  its.log.warn({ participant, holderPid, reason }, 'a credential request came to nothing');
  return 'done' as const;
};

/** The id under which the issuer knows what we want; undefined when it does not issue it. */
const objectOf = async (its: RequestingOptions, { issuer, type, object }: CredentialRequest) =>
  object !== '' ? object : (await supportedBy(its, issuer)).find((one) => one.type === type)?.id;

const send = async (its: RequestingOptions, request: CredentialRequest, object: string) => {
  const { participant, holderPid, issuer } = request;
  const { tokens } = its.holder(participant);
  // The issuer may ask for our membership with it, and echoes it when it delivers (dcp §6).
  const token = tokens.accessTokenFor(issuer, [scopeOfType('MembershipCredential')]);
  await its.store.noteAttempt(participant, holderPid, tokenHash(token));
  return its.client.request({
    method: 'POST',
    url: `${await serviceOf(its, issuer)}/credentials`,
    headers: {
      accept: 'application/json',
      'content-type': 'application/json',
      authorization: tokens.tokenFor({ audience: issuer, token }),
    },
    body: JSON.stringify(dcpMessage('CredentialRequestMessage', { holderPid, credentials: [{ id: object }] })),
    timeoutMs,
    maxBytes,
  });
};

/** Sends a request until the issuer has answered it; the credential itself comes later, by delivery. */
const carryOut = async (its: RequestingOptions, request: CredentialRequest, attempts: number): Promise<TaskResult> => {
  if (request.status !== 'OPEN' || request.statusUrl !== null) return 'done';
  const object = await objectOf(its, request);
  if (object === undefined) return reject(its, request, `${request.issuer} does not issue ${request.type}`);
  const answer = await send(its, request, object);
  if (answer.status >= 200 && answer.status < 300) {
    await its.store.noteAccepted(request.participant, request.holderPid, answer.headers.location ?? '');
    return 'done';
  }
  return mayAskAgain(answer.status, attempts) ? 'later' : reject(its, request, `the issuer answered ${answer.status}`);
};

/** Turns an offer into requests, as far as its issuer is trusted for them. Named after the offer: a repeat adds none. */
const takeUp = async (its: RequestingOptions, { participant, id, issuer, objects }: CredentialOffer): Promise<void> => {
  const supported = objects.some(({ type }) => type === null) ? await supportedBy(its, issuer) : [];
  for (const [index, object] of objects.entries()) {
    const type = object.type === null ? supported.find((one) => one.id === object.id)?.type : knownType(object.type);
    if (type === undefined || !its.trustedIssuers(type).includes(issuer))
      its.log.info({ participant, issuer, object: object.id }, 'an offer is not for us');
    else await addRequest(its, { participant, holderPid: `${id}:${index}`, issuer, type, object: object.id });
  }
};

export const createCredentialRequests = (its: RequestingOptions): CredentialRequests => {
  const { store } = its;
  return {
    request: async (participant, { issuer, type, object = '' }) => {
      if (!its.trustedIssuers(type).includes(issuer))
        throw new AppError('forbidden', { detail: `${issuer} is not trusted for ${type}` });
      const open = await store.read.open(participant, issuer, its.clock.now() - openMs);
      const same = open.find((one) => asksForSame(one, { type, object }));
      return same ?? addRequest(its, { participant, holderPid: its.newId(), issuer, type, object });
    },
    handlers: {
      [requestTopic]: async ({ participant, subject, attempts }) => {
        const request = await store.read.request(participant as ParticipantId, subject);
        if (request === undefined) return 'done';
        if (attempts >= maxAttempts) return reject(its, request, 'the issuer did not answer');
        return carryOut(its, request, attempts);
      },
      [offerTopic]: async ({ participant, subject, attempts }) => {
        const offer = await store.offers.find(participant as ParticipantId, subject);
        if (offer !== undefined && attempts < maxAttempts) await takeUp(its, offer);
        await store.offers.remove(participant as ParticipantId, subject);
        return 'done';
      },
    },
  };
};
