import { utf8 } from '../../contracts/bytes.ts';
import { type CredentialRequestMessage, dcpMessage, jwtProfile } from '../../contracts/dcp/messages.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { CredentialType } from '../../contracts/vc/credential.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Logger } from '../../kernel/log.ts';
import { uuidV7 } from '../../kernel/random.ts';
import type { TaskHandler, TaskResult } from '../../kernel/sql/outbox.ts';
import { type IssuingTools, makeCredential } from './issuing.ts';
import type {
  CredentialStore,
  DeliverToHolder,
  Grant,
  Grants,
  IssuanceRequest,
  IssuedCredential,
  MadeCredential,
  RequestStore,
  TokenSeal,
} from './ports.ts';
import { decideGrant, isGivenUp } from './rules.ts';

/** Requests of holders (dcp §6): kept and answered at once, decided and delivered by a worker at its own pace. */

export interface RequestTools extends IssuingTools {
  readonly grants: Grants;
  readonly requests: RequestStore;
  readonly credentials: CredentialStore;
  readonly deliver: DeliverToHolder;
  readonly seal: TokenSeal;
  readonly log: Logger;
  /** Called when there is work. */
  readonly wake: () => void;
}

/** Open requests of one holder: nobody fills the queue of all. */
const maxOpenRequests = 50;

/** The stable id of a kind of credential in this issuer's metadata: a UUID of its name (RFC 9562 §5.8). */
export const objectIdOf = (issuer: Did, type: CredentialType): string => {
  const bytes = nodeCrypto.sha256(utf8(`stekker/credential-object/v1\n${issuer}\n${type}\n${jwtProfile}`)).slice(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Buffer.from(bytes).toString('hex');
  return `urn:uuid:${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
};

/** The grants behind one object id: of a kind, or of an offer to this very holder. */
const grantsOf = async ({ grants, keys }: RequestTools, holder: Did, id: string): Promise<readonly Grant[]> => {
  const type = grants.types.find((one) => objectIdOf(keys.did, one) === id);
  if (type !== undefined) return await grants.ofType(holder, type);
  const offered = await grants.ofOffer(holder, id);
  return offered === undefined ? [] : [offered];
};

const isKnownObject = async ({ grants, keys }: RequestTools, holder: Did, id: string): Promise<boolean> =>
  grants.types.some((type) => objectIdOf(keys.did, type) === id) || (await grants.ofOffer(holder, id)) !== undefined;

export interface Requester {
  readonly did: Did;
  /** What its SI token carried for the delivery. */
  readonly accessToken: string | undefined;
}

/**
 * Keeps a request; the answer is its id.
 *
 * @throws AppError `body-invalid` naming each object that is none of ours, `too-many-requests`.
 */
export const receiveRequest = async (
  tools: RequestTools,
  { did, accessToken }: Requester,
  { holderPid, credentials }: Pick<CredentialRequestMessage, 'holderPid' | 'credentials'>,
): Promise<string> => {
  const { keys, requests, seal, clock, random } = tools;
  const known = await Promise.all(credentials.map(({ id }) => isKnownObject(tools, did, id)));
  const faults = known.flatMap((isKnown, place) =>
    isKnown ? [] : [{ path: `/credentials/${place}/id`, message: 'is no credential of this issuer' }],
  );
  if (faults.length > 0) throw new AppError('body-invalid', { faults });
  const id = uuidV7(clock.now(), random);
  const request: IssuanceRequest = {
    issuer: keys.did,
    id,
    holder: did,
    holderPid,
    objects: [...new Set(credentials.map((one) => one.id))],
    token: accessToken === undefined ? null : seal.seal(accessToken, id),
    state: 'RECEIVED',
    decision: null,
    createdAt: clock.now(),
    settledAt: null,
  };
  if ((await requests.receive(request, maxOpenRequests)) === 'full')
    throw new AppError('too-many-requests', {
      detail: `${maxOpenRequests} requests of this holder are open`,
      retryAfterSeconds: 60,
    });
  tools.wake();
  return id;
};

interface Decided {
  readonly ids: readonly string[];
  readonly made: readonly MadeCredential[];
}

const nothing: Decided = { ids: [], made: [] };

const decideOne = async (tools: RequestTools, grant: Grant): Promise<Decided> => {
  const { credentials, keys, clock, log } = tools;
  const issued = await credentials.ofGrant(keys.did, grant.subject.id, grant.key);
  const verdict = decideGrant(grant, issued, clock.now());
  switch (verdict.kind) {
    case 'again':
      return { ids: [verdict.id], made: [] };
    case 'refuse':
      log.info({ holder: grant.subject.id, grant: grant.key, reason: verdict.reason }, 'a credential was refused');
      return nothing;
    case 'issue': {
      const credential = await makeCredential(tools, grant);
      return { ids: [credential.id], made: [{ credential, before: issued.length }] };
    }
  }
};

/** One object that comes to nothing refuses the whole request (dcp §5.2). */
const decideAll = async (tools: RequestTools, { holder, objects }: IssuanceRequest): Promise<Decided> => {
  const grants = new Map<string, Grant>();
  const perObject: (readonly Grant[])[] = [];
  for (const id of objects) perObject.push(await grantsOf(tools, holder, id));
  for (const grant of perObject.flat()) grants.set(grant.key, grant);
  const decided = new Map<string, Decided>();
  for (const [key, grant] of grants) decided.set(key, await decideOne(tools, grant));
  const isEmpty = (some: readonly Grant[]) => some.every(({ key }) => (decided.get(key)?.ids.length ?? 0) === 0);
  if (perObject.some(isEmpty)) return nothing;
  const all = [...decided.values()];
  return { ids: all.flatMap(({ ids }) => ids), made: all.flatMap(({ made }) => made) };
};

const refusal = 'The request was refused.';

const messageOf = (request: IssuanceRequest, credentials: readonly IssuedCredential[]): Json => {
  const pids = { issuerPid: request.id, holderPid: request.holderPid };
  const issued = credentials.map(({ type, jwt }) => ({ credentialType: type, payload: jwt, format: jwtProfile }));
  return issued.length > 0
    ? dcpMessage('CredentialMessage', { ...pids, status: 'ISSUED', credentials: issued })
    : dcpMessage('CredentialMessage', { ...pids, status: 'REJECTED', rejectionReason: refusal });
};

const deliverDecision = async (
  tools: RequestTools,
  request: IssuanceRequest,
  its: { readonly decision: readonly string[]; readonly attempts: number },
): Promise<TaskResult> => {
  const { credentials, requests, deliver, seal, clock, keys, log } = tools;
  const found = await Promise.all(its.decision.map((id) => credentials.find(keys.did, id)));
  // What was revoked between decision and delivery is not handed over as if it were good.
  const good = found.filter((one) => one?.standing === 'active');
  const isWhole = good.length === its.decision.length;
  const body = messageOf(
    request,
    good.flatMap((one) => (one === undefined || !isWhole ? [] : [one])),
  );
  const token = request.token === null ? null : (seal.open(request.token, request.id) ?? null);
  const delivery = await deliver(request.holder, '/credentials', { body, token });
  const { createdAt, id, holder } = request;
  if (delivery === 'accepted') {
    const isIssued = isWhole && its.decision.length > 0;
    await requests.settle(request, isIssued ? 'ISSUED' : 'REJECTED', clock.now());
    log.info({ request: id, holder, isIssued }, 'a request for credentials was answered');
    return 'done';
  }
  if (!isGivenUp(delivery, { attempts: its.attempts, createdAt, now: clock.now() })) return 'later';
  log.warn({ request: id, holder, delivery }, 'credentials could not be delivered');
  await requests.settle(request, 'REJECTED', clock.now());
  return 'done';
};

/** Decides what nobody decided yet, once, and delivers it until the holder has it. */
export const createIssuanceHandler =
  (tools: RequestTools): TaskHandler =>
  async ({ subject, attempts }) => {
    const request = await tools.requests.find(tools.keys.did, subject);
    if (request === undefined || request.state !== 'RECEIVED') return 'done';
    if (request.decision !== null)
      return await deliverDecision(tools, request, { decision: request.decision, attempts });
    const { ids, made } = await decideAll(tools, request);
    const saved = await tools.requests.decide(request, ids, made);
    if (saved !== 'saved') return 'later'; // somebody was faster: read again
    return await deliverDecision(tools, request, { decision: ids, attempts });
  };
