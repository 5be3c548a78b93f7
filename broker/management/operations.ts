import { z } from '@hono/zod-openapi';
import { isDid } from '../../contracts/ids.ts';
import { formatTime, parsePeerTime } from '../../contracts/time.ts';
import { accreditationSubject, membershipSubject } from '../../contracts/vc/credential.ts';
import { isDidWeb } from '../../kernel/did.ts';
import { pageOf, pageQuery, pageThrough } from '../../kernel/http/paging.ts';
import { type Operation, operation } from './api.ts';
import type {
  AccreditationControl,
  AnchorControl,
  CredentialControl,
  HarvestNow,
  JoinBroker,
  LogControl,
  RegisterControl,
  ShownAccreditation,
  ShownAnchoring,
  ShownCredential,
  ShownHarvest,
  ShownParticipant,
  StatusControl,
} from './ports.ts';

/** The operator's API of a broker and of an accreditor, group by group (paths below `/v1`). */

const did = z.string().refine(isDid, 'is no DID');
/** Only a did:web can be asked for its document, and so join. */
const memberDid = z.string().refine(isDidWeb, 'is no did:web in its one form');
const uuid = z.string().regex(/^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, 'is no urn:uuid:…');
const time = z.string().describe('RFC 3339, UTC');
const timeOrNull = time.nullable();
const timeOf = (ms: number | null): string | null => (ms === null ? null : formatTime(ms));

const participant = z
  .object({
    did: z.string(),
    name: z.string(),
    roles: z.array(z.string()),
    state: z.enum(['invited', 'joined', 'left']),
    admittedAt: time,
    joinedAt: timeOrNull,
    leftAt: timeOrNull,
  })
  .openapi('Participant');

const showParticipant = (one: ShownParticipant) => ({
  did: one.did,
  name: one.name,
  roles: [...one.roles],
  state: one.state,
  admittedAt: formatTime(one.admittedAt),
  joinedAt: timeOf(one.joinedAt),
  leftAt: timeOf(one.leftAt),
});

/** The register of participants. */
export const registerOperations = (register: RegisterControl): readonly Operation[] => [
  operation({
    method: 'post',
    path: '/v1/invitations',
    id: 'invite',
    summary: 'Invite a DID, with a one-time code for it alone; again to change name and roles.',
    tag: 'participants',
    body: z.strictObject({ did: memberDid, name: z.string().min(1).max(200), roles: membershipSubject.shape.role }),
    status: 201,
    answer: participant.extend({ joinCode: z.string().nullable(), expiresAt: timeOrNull }),
    handle: async ({ body }) => {
      const { participant: invited, joinCode, expiresAt } = await register.invite(body);
      return { ...showParticipant(invited), joinCode, expiresAt: timeOf(expiresAt) };
    },
  }),
  operation({
    method: 'get',
    path: '/v1/participants',
    id: 'listParticipants',
    summary: 'List participants in order of DID.',
    tag: 'participants',
    query: pageQuery.extend({ state: z.enum(['invited', 'joined', 'left']).optional() }),
    status: 200,
    answer: pageOf(participant),
    handle: ({ query: { state, ...query } }) =>
      pageThrough(
        query,
        (page) => register.page({ ...page, ...(state === undefined ? {} : { state }) }),
        (one) => one.did,
        showParticipant,
      ),
  }),
  operation({
    method: 'delete',
    path: '/v1/participants/{did}',
    id: 'endMembership',
    summary: 'End a membership and revoke the credentials that prove it.',
    tag: 'participants',
    params: z.object({ did }),
    status: 200,
    answer: participant,
    handle: async ({ params }) => showParticipant(await register.leave(params.did)),
  }),
];

const credential = z
  .object({
    id: z.string(),
    type: z.enum(['MembershipCredential', 'ApplicationAccreditationCredential']),
    holder: z.string(),
    standing: z.enum(['active', 'suspended', 'revoked']),
    standingAt: time,
    issuedAt: time,
    validUntil: time,
  })
  .openapi('Credential');

const showCredential = (one: ShownCredential) => ({
  id: one.id,
  type: one.type,
  holder: one.holder,
  standing: one.standing,
  standingAt: formatTime(one.standingAt),
  issuedAt: formatTime(one.issuedAt),
  validUntil: formatTime(one.validUntil),
});

const reason = z.string().min(1).max(1000);

const changeOperation = (
  credentials: CredentialControl,
  its: {
    readonly change: 'revoked' | 'reinstated';
    readonly name: string;
    readonly id: string;
    readonly summary: string;
  },
): Operation =>
  operation({
    method: 'post',
    path: `/v1/credentials/{id}/${its.name}`,
    id: its.id,
    summary: its.summary,
    tag: 'credentials',
    params: z.object({ id: uuid }),
    body: z.strictObject({ reason }),
    status: 200,
    answer: credential,
    handle: async ({ params, body }) =>
      showCredential(await credentials.changeStanding(params.id, { change: its.change, reason: body.reason })),
  });

const peerTime = z
  .string()
  .refine((text) => parsePeerTime(text) !== undefined, 'is no time of RFC 3339')
  .transform((text) => parsePeerTime(text) ?? 0);

const suspensionOperation = (credentials: CredentialControl): Operation =>
  operation({
    method: 'post',
    path: '/v1/credentials/{id}/suspension',
    id: 'suspendCredential',
    summary: 'Suspend a credential: nothing new begins, and what runs goes on until `effectiveAt`.',
    tag: 'credentials',
    params: z.object({ id: uuid }),
    body: z.strictObject({ reason, effectiveAt: peerTime.optional() }),
    status: 200,
    answer: credential,
    handle: async ({ params, body: { reason: why, effectiveAt } }) =>
      showCredential(
        await credentials.changeStanding(params.id, {
          change: 'suspended',
          reason: why,
          ...(effectiveAt === undefined ? {} : { effectiveAt }),
        }),
      ),
  });

/** What was issued, in both forms, and its standing. */
export const credentialOperations = (credentials: CredentialControl): readonly Operation[] => [
  operation({
    method: 'get',
    path: '/v1/credentials',
    id: 'listCredentials',
    summary: 'List what was issued, in order of id.',
    tag: 'credentials',
    query: pageQuery.extend({ holder: did.optional() }),
    status: 200,
    answer: pageOf(credential),
    handle: ({ query: { holder, ...query } }) =>
      pageThrough(
        query,
        (page) => credentials.page({ ...page, ...(holder === undefined ? {} : { holder }) }),
        (one) => one.id,
        showCredential,
      ),
  }),
  operation({
    method: 'get',
    path: '/v1/credentials/{id}',
    id: 'getCredential',
    summary: 'One credential, in both forms.',
    tag: 'credentials',
    params: z.object({ id: uuid }),
    status: 200,
    answer: credential.extend({ jwt: z.string(), dataIntegrity: z.looseObject({}) }),
    handle: async ({ params }) => {
      const found = await credentials.credential(params.id);
      return {
        ...showCredential(found),
        jwt: found.jwt,
        dataIntegrity: found.dataIntegrity as Record<string, unknown>,
      };
    },
  }),
  changeOperation(credentials, {
    change: 'revoked',
    name: 'revocation',
    id: 'revokeCredential',
    summary: 'Revoke a credential for good, and with it every other one of the same grant.',
  }),
  suspensionOperation(credentials),
  changeOperation(credentials, {
    change: 'reinstated',
    name: 'reinstatement',
    id: 'reinstateCredential',
    summary: 'End a suspension.',
  }),
];

const { application, purposes, criteria, level } = accreditationSubject.shape;

const accreditation = z
  .object({
    id: z.string(),
    holder: z.string(),
    application,
    purposes: z.array(z.string()),
    criteria,
    level: z.string().nullable(),
    decidedAt: time,
    validUntil: time,
  })
  .openapi('Accreditation');

const showAccreditation = (one: ShownAccreditation) => ({
  ...one,
  application: { ...one.application },
  purposes: [...one.purposes],
  criteria: { ...one.criteria },
  decidedAt: formatTime(one.decidedAt),
  validUntil: formatTime(one.validUntil),
});

/** An accreditor's credentials last two years at most (credentials §7). */
const maxValidDays = 730;

/** What an accreditor decides. */
export const accreditationOperations = (accreditations: AccreditationControl): readonly Operation[] => [
  operation({
    method: 'post',
    path: '/v1/accreditations',
    id: 'accredit',
    summary:
      'Accredit an application in a version, run by a holder, for purposes; the holder is offered the credential.',
    tag: 'accreditations',
    body: z.strictObject({
      id: uuid.optional(),
      holder: memberDid,
      application,
      purposes,
      criteria,
      level,
      validDays: z.number().int().min(1).max(maxValidDays),
    }),
    status: 201,
    answer: accreditation,
    handle: async ({ body: { id, level: ordinal, ...decided } }) =>
      showAccreditation(
        await accreditations.decide({ ...decided, level: ordinal ?? null, ...(id === undefined ? {} : { id }) }),
      ),
  }),
  operation({
    method: 'get',
    path: '/v1/accreditations',
    id: 'listAccreditations',
    summary: 'List decisions in order of id.',
    tag: 'accreditations',
    query: pageQuery,
    status: 200,
    answer: pageOf(accreditation),
    handle: ({ query }) => pageThrough(query, accreditations.page, (one) => one.id, showAccreditation),
  }),
];

/** Putting our own keys into the broker's log. */
export const joinOperations = (join: JoinBroker): readonly Operation[] => [
  operation({
    method: 'post',
    path: '/v1/join',
    id: 'join',
    summary: "Register our keys in the broker's log, with the code that its operator gave.",
    tag: 'join',
    body: z.strictObject({ code: z.string().min(1).max(200) }),
    status: 200,
    answer: z.object({ joined: z.literal(true) }),
    handle: async ({ body }) => {
      await join(body.code);
      return { joined: true as const };
    },
  }),
];

/** The log. */
export const logOperations = (log: LogControl): readonly Operation[] => [
  operation({
    method: 'get',
    path: '/v1/log',
    id: 'getLog',
    summary: 'How far the log is.',
    tag: 'log',
    status: 200,
    answer: z.object({
      origin: z.string(),
      size: z.number().int(),
      isWorking: z.boolean(),
      checkpoint: z.string().nullable(),
    }),
    handle: async () => log.state(),
  }),
  operation({
    method: 'post',
    path: '/v1/log/audit',
    id: 'auditLog',
    summary: 'Compare every served file with the rows, and write again what differs when asked to.',
    tag: 'log',
    body: z.strictObject({ repair: z.boolean() }),
    status: 200,
    answer: z.object({ checked: z.number().int(), damaged: z.array(z.string()), isRepaired: z.boolean() }),
    handle: async ({ body }) => {
      const { checked, damaged, isRepaired } = await log.audit(body);
      return { checked, damaged: [...damaged], isRepaired };
    },
  }),
];

/** The store of harvested catalogs. */
export const harvestOperations = (harvest: HarvestNow): readonly Operation[] => [
  operation({
    method: 'post',
    path: '/v1/store/harvest',
    id: 'harvest',
    summary: "Read members' catalogs again now: of one, or of all.",
    tag: 'store',
    body: z.strictObject({ member: did.optional() }),
    status: 202,
    answer: z.object({ started: z.literal(true) }),
    handle: async ({ body }) => {
      await harvest(body.member);
      return { started: true as const };
    },
  }),
];

/** Anchors of checkpoints on the chain. */
export const anchorOperations = (anchors: AnchorControl): readonly Operation[] => [
  operation({
    method: 'get',
    path: '/v1/anchors',
    id: 'listAnchors',
    summary: 'Anchors of checkpoints, newest first.',
    tag: 'anchors',
    status: 200,
    answer: z.object({
      items: z.array(
        z.object({
          size: z.string(),
          state: z.string(),
          transaction: z.string().nullable(),
          block: z.string().nullable(),
        }),
      ),
    }),
    handle: async () => ({ items: (await anchors.list()).map((one) => ({ ...one })) }),
  }),
];

const shownFaults = 100;

const harvestStatus = z.object({
  catalogs: z.number().int(),
  datasets: z.number().int(),
  at: timeOrNull.describe('When a catalog was read last.'),
  faults: z.array(z.object({ provider: z.string(), at: time, fault: z.string() })),
});

const showHarvest = (all: readonly ShownHarvest[]): z.infer<typeof harvestStatus> => ({
  catalogs: all.length,
  datasets: all.reduce((sum, { datasets }) => sum + datasets, 0),
  at: timeOf(all.length === 0 ? null : Math.max(...all.map(({ at }) => at))),
  faults: all
    .flatMap(({ provider, at, fault }) => (fault === null ? [] : [{ provider, at: formatTime(at), fault }]))
    .slice(0, shownFaults),
});

const anchoringStatus = z.object({
  newestFinal: z.object({ size: z.string(), transaction: z.string(), block: z.string(), time }).nullable(),
  open: z.number().int().describe('Checkpoints on their way.'),
  waitingSince: timeOrNull,
  reason: z.string().nullable().describe('What it waits for, or why it stopped.'),
  isStopped: z.boolean().describe('It goes on only after a restart.'),
  isLate: z.boolean(),
});

const showAnchoring = (
  { newestFinal, open, waitingSince, reason: why, isStopped }: ShownAnchoring,
  isLate: boolean,
): z.infer<typeof anchoringStatus> => ({
  newestFinal:
    newestFinal === null
      ? null
      : {
          size: String(newestFinal.size),
          transaction: newestFinal.transaction,
          block: String(newestFinal.blockNumber),
          time: newestFinal.time,
        },
  open: open.length,
  waitingSince: timeOf(waitingSince),
  reason: why,
  isStopped,
  isLate,
});

/** Everything at one look. */
export const statusOperations = (status: StatusControl): readonly Operation[] => [
  operation({
    method: 'get',
    path: '/v1/status',
    id: 'getStatus',
    summary: 'How the broker is: its log, its stream of events, the catalogs it reads, and its anchors.',
    tag: 'status',
    status: 200,
    answer: z.object({
      log: z.object({
        origin: z.string(),
        size: z.number().int(),
        isWorking: z.boolean(),
        isWriter: z.boolean().describe('Whether this process writes the log; of several one does.'),
      }),
      events: z.object({ events: z.number().int(), listeners: z.number().int() }),
      harvest: harvestStatus,
      anchoring: anchoringStatus.nullable().describe('Null where nothing is anchored.'),
    }),
    handle: async () => {
      const anchoring = await status.anchoring();
      return {
        log: status.log(),
        events: await status.events(),
        harvest: showHarvest(await status.harvest()),
        anchoring: anchoring && showAnchoring(anchoring, status.isAnchorLate() === true),
      };
    },
  }),
];
