import { formatTime } from '../../contracts/time.ts';
import { pageOf } from '../../kernel/http/paging.ts';
import type { Api } from './api.ts';
import {
  applicationKeyView,
  applicationView,
  byApplication,
  credentialRequestView,
  credentialView,
  membershipView,
  newApplication,
  newCredentialRequest,
  newMembership,
  statusView,
} from './forms.ts';
import type { Applications, CredentialRequest, Status, Wallet } from './ports.ts';

/** Who we are: membership, credentials, and the applications we answer for. */

export interface IdentityRoutesOptions {
  readonly wallet: Wallet;
  readonly applications: Applications;
  readonly status: Status;
}

const tag = 'identity';

const showRequest = ({ id, issuer, type, state, reason, requestedAt }: CredentialRequest) => ({
  id,
  issuer,
  type,
  state,
  reason,
  requestedAt: formatTime(requestedAt),
});

const credentialRoutes = ({ endpoint }: Api, { wallet }: IdentityRoutesOptions): void => {
  endpoint(
    {
      method: 'get',
      path: '/v1/credentials',
      id: 'listCredentials',
      tag,
      summary: 'Credentials this connector holds.',
      status: 200,
      answer: pageOf(credentialView),
    },
    async ({ participant }) => ({ items: [...(await wallet.credentials(participant))], next: null }),
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/credentials/requests',
      id: 'listCredentialRequests',
      tag,
      summary: 'Credentials that were asked for.',
      status: 200,
      answer: pageOf(credentialRequestView),
    },
    async ({ participant }) => ({ items: (await wallet.requests(participant)).map(showRequest), next: null }),
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/credentials/requests',
      id: 'requestCredential',
      tag,
      summary: 'Ask an issuer for a credential; it comes later.',
      body: newCredentialRequest,
      status: 202,
      answer: credentialRequestView,
    },
    async ({ participant, body }) => showRequest(await wallet.request(participant, body.issuer, body.type)),
  );
};

const applicationRoutes = ({ endpoint }: Api, { applications }: IdentityRoutesOptions): void => {
  endpoint(
    {
      method: 'get',
      path: '/v1/applications',
      id: 'listApplications',
      tag,
      summary: 'Own applications that may fetch through the gateway.',
      status: 200,
      answer: pageOf(applicationView),
    },
    async ({ participant }) => {
      const all = applications.list(participant);
      const shown = all.map(({ id, createdAt }) => ({ application: id, createdAt: formatTime(createdAt) }));
      return { items: shown, next: null };
    },
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/applications',
      id: 'addApplication',
      tag,
      summary: 'Let an application fetch; its key is shown once.',
      body: newApplication,
      status: 201,
      answer: applicationKeyView,
    },
    async ({ participant, body: { application } }) => ({
      application,
      key: (await applications.add(participant, application)).key,
    }),
  );
  endpoint(
    {
      method: 'delete',
      path: '/v1/applications/{application}',
      id: 'removeApplication',
      tag,
      summary: 'Take the key of an application away; it works no longer.',
      params: byApplication,
      status: 204,
    },
    async ({ participant, params }) => {
      await applications.remove(participant, params.application);
      return undefined;
    },
  );
};

export const addIdentityRoutes = (api: Api, options: IdentityRoutesOptions): void => {
  const { endpoint } = api;
  const { wallet, status } = options;
  endpoint(
    {
      method: 'get',
      path: '/v1/status',
      id: 'getStatus',
      tag,
      summary: 'Who this connector is, where it listens, and what keeps it from serving.',
      status: 200,
      answer: statusView,
    },
    async ({ participant }) => {
      const read = await status.read(participant);
      return { ...read, troubles: [...read.troubles] };
    },
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/join',
      id: 'join',
      tag,
      summary: 'Join the broker with the code of an invitation; the same again is harmless.',
      body: newMembership,
      status: 200,
      answer: membershipView,
    },
    async ({ participant, body }) => {
      const { broker, member } = await wallet.join(participant, body.code);
      return { broker, member };
    },
  );
  credentialRoutes(api, options);
  applicationRoutes(api, options);
};
