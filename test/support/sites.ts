import { gzipSync } from 'node:zlib';
import { Hono } from 'hono';
import { toBase64Url } from '../../contracts/bytes.ts';
import type { Did } from '../../contracts/ids.ts';
import { formatTime } from '../../contracts/time.ts';
import {
  credentialsContext,
  type StatusListCredential,
  type StatusPurpose,
  statusListCredential,
} from '../../contracts/vc/credential.ts';
import { emptyBits } from '../../contracts/vc/status-list.ts';
import { buildDidDocument } from '../../kernel/did.ts';
import { serveRoutes } from '../../kernel/http/server.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import { issueAsJwt } from '../../kernel/vc/issue.ts';
import { keysOf } from './identities.ts';

/** Real servers on `localhost`, each a participant with a DID document and whatever routes a test adds. */

export interface Site extends AsyncDisposable {
  readonly did: Did;
  readonly origin: string;
  readonly keys: ParticipantKeys;
  readonly app: Hono;
  /** What is served as DID document; a test may change it. */
  document: object;
  /** Paths that were asked for, in order. */
  readonly asked: string[];
}

export interface SiteOptions {
  readonly byte: number;
  /** Type → path of a service of the DID document. */
  readonly services?: Readonly<Record<string, string>>;
  readonly routes?: (app: Hono, site: () => Site) => void;
  /** False where the routes serve the DID document themselves. */
  readonly servesDocument?: boolean;
}

export const startSite = async ({ byte, services = {}, routes, servesDocument = true }: SiteOptions): Promise<Site> => {
  const app = new Hono();
  const asked: string[] = [];
  let site: Site | undefined;
  const self = (): Site => {
    if (site === undefined) throw new Error('the site is not up yet');
    return site;
  };
  app.use(async (c, next) => {
    asked.push(`${c.req.method} ${c.req.path}`);
    await next();
  });
  if (servesDocument) app.get('/.well-known/did.json', (c) => c.json(self().document));
  routes?.(app, self);
  const server = await serveRoutes(app, { host: 'localhost', port: 0 });
  const origin = `http://localhost:${server.port}`;
  const keys = keysOf(`did:web:localhost%3A${server.port}`, byte);
  const addresses = Object.entries(services).map(([type, path]) => [type, `${origin}${path}`]);
  site = {
    did: keys.did,
    origin,
    keys,
    app,
    asked,
    document: buildDidDocument({ keys, services: Object.fromEntries(addresses) }),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
  return site;
};

/** What an issuer's status lists say, and what of them a test may spoil. */
export interface Lists {
  readonly bits: Record<StatusPurpose, Uint8Array>;
  spoil: (list: StatusListCredential) => StatusListCredential;
  sign: (list: StatusListCredential) => Promise<string>;
  answer: (text: string) => Response;
}

const jwtResponse = (text: string) => new Response(text, { headers: { 'content-type': 'application/vc+jwt' } });

export const encodeBits = (bits: Uint8Array): string => `u${toBase64Url(gzipSync(bits))}`;

/** Adds status lists at `/status/1-<purpose>` to a site. */
export const serveLists = (app: Hono, site: () => Site, now: () => number): Lists => {
  const lists: Lists = {
    bits: { revocation: emptyBits(), suspension: emptyBits() },
    spoil: (list) => list,
    sign: (list) => issueAsJwt(list, site().keys.assertion),
    answer: jwtResponse,
  };
  app.get('/status/:list', async (c) => {
    const purpose: StatusPurpose = c.req.param('list').endsWith('suspension') ? 'suspension' : 'revocation';
    const { origin, did } = site();
    const id = `${origin}/status/${c.req.param('list')}`;
    const list = statusListCredential.parse({
      '@context': [credentialsContext],
      id,
      type: ['VerifiableCredential', 'BitstringStatusListCredential'],
      issuer: did,
      validFrom: formatTime(now()),
      validUntil: formatTime(now() + 900_000),
      credentialSubject: {
        id: `${id}#list`,
        type: 'BitstringStatusList',
        statusPurpose: purpose,
        encodedList: encodeBits(lists.bits[purpose]),
      },
    });
    return lists.answer(await lists.sign(lists.spoil(list)));
  });
  return lists;
};
