import { type CredentialRequestMessage, dcpMessage, jwtProfile } from '../../contracts/dcp/messages.ts';
import type { Did } from '../../contracts/ids.ts';
import type { Credential, CredentialType } from '../../contracts/vc/credential.ts';
import { createAuthenticator, createTokenService, type TokenService, type VerifiedCaller } from '../../kernel/auth.ts';
import type { Clock } from '../../kernel/clock.ts';
import { createDidResolver } from '../../kernel/did.ts';
import { createGuardedClient } from '../../kernel/http/client.ts';
import { systemRandom } from '../../kernel/random.ts';
import { issueAsJwt } from '../../kernel/vc/issue.ts';
import { type Lists, type Site, serveLists, startSite } from './sites.ts';

/** An issuer that does what a test tells it: it takes requests, and delivers or offers whatever it is given. */

export interface TakenRequest {
  readonly holder: Did;
  readonly token: string | undefined;
  readonly message: CredentialRequestMessage;
}

export interface IssuerSite extends AsyncDisposable {
  readonly site: Site;
  readonly did: Did;
  readonly lists: Lists;
  readonly tokens: TokenService;
  readonly taken: TakenRequest[];
  /** What requests are answered with; the first of them, then the next. */
  readonly answers: (() => Response)[];
  supports: { id: string; credentialType: string; profile: string }[];
  readonly jwtOf: (credential: Credential) => Promise<string>;
  /** Sends a message to a holder, with a token that echoes what is given. */
  readonly send: (url: string, body: object, token?: string) => Promise<number>;
}

export const membershipObject = 'urn:uuid:00000000-0000-4000-8000-000000000001';
export const accreditationObject = 'urn:uuid:00000000-0000-4000-8000-000000000002';

/** A CredentialMessage of issued credentials. */
export const delivery = (holderPid: string, jwts: readonly string[], type: CredentialType = 'MembershipCredential') =>
  dcpMessage('CredentialMessage', {
    issuerPid: 'urn:issuer:1',
    holderPid,
    status: 'ISSUED',
    credentials: jwts.map((payload) => ({ credentialType: type, payload, format: jwtProfile })),
  });

export const startIssuerSite = async (byte: number, clock: Clock): Promise<IssuerSite> => {
  let lists: Lists | undefined;
  let metadata: IssuerSite | undefined;
  const taken: TakenRequest[] = [];
  const answers: (() => Response)[] = [];
  const client = createGuardedClient({ allowLoopbackHttp: true });
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp: true });
  const callerOf = (site: Site, headers: Headers): Promise<VerifiedCaller> =>
    createAuthenticator({ did: site.did, resolver, clock, used: { claim: async () => true } }).authenticate(headers);
  const site = await startSite({
    byte,
    services: { IssuerService: '/dcp' },
    routes: (app, self) => {
      lists = serveLists(app, self, clock.now);
      app.get('/dcp/metadata', (c) =>
        c.json(dcpMessage('IssuerMetadata', { issuer: self().did, credentialsSupported: metadata?.supports ?? [] })),
      );
      app.post('/dcp/credentials', async (c) => {
        const { did: holder, accessToken: token } = await callerOf(self(), c.req.raw.headers);
        taken.push({ holder, token, message: (await c.req.json()) as CredentialRequestMessage });
        const answer = answers.shift();
        return answer === undefined
          ? new Response(null, { status: 201, headers: { location: `${self().origin}/dcp/requests/${taken.length}` } })
          : answer();
      });
    },
  });
  if (lists === undefined) throw new Error('no lists');
  const tokens = createTokenService({ keys: site.keys, clock, random: systemRandom });
  const issuer: IssuerSite = {
    site,
    did: site.did,
    lists,
    tokens,
    taken,
    answers,
    supports: [
      { id: membershipObject, credentialType: 'MembershipCredential', profile: jwtProfile },
      { id: accreditationObject, credentialType: 'ApplicationAccreditationCredential', profile: jwtProfile },
    ],
    jwtOf: (credential) => issueAsJwt(credential, site.keys.assertion),
    send: async (url, body, token) => {
      const audience = `did:web:${new URL(url).host.replace(':', '%3A')}` as Did;
      const answer = await client.request({
        method: 'POST',
        url,
        headers: {
          'content-type': 'application/json',
          authorization: tokens.tokenFor({ audience, ...(token === undefined ? {} : { token }) }),
        },
        body: JSON.stringify(body),
        timeoutMs: 5_000,
        maxBytes: 65_536,
      });
      return answer.status;
    },
    [Symbol.asyncDispose]: async () => {
      await site[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
    },
  };
  metadata = issuer;
  return issuer;
};
