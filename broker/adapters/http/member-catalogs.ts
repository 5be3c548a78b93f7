import { z } from 'zod';
import { versionDocument } from '../../../contracts/dsp/catalog.ts';
import { dspaceContext, protocolVersion, withoutSlash } from '../../../contracts/dsp/common.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { Did } from '../../../contracts/ids.ts';
import { type Json, parseJson } from '../../../contracts/json.ts';
import type { TokenService } from '../../../kernel/auth.ts';
import type { Clock } from '../../../kernel/clock.ts';
import { type DidResolver, rootOfDid } from '../../../kernel/did.ts';
import type { ClientAnswer, GuardedClient } from '../../../kernel/http/client.ts';
import type { CatalogLimits, ReadCatalog } from '../../store/ports.ts';

/** Catalogs of members over the Dataspace Protocol (dsp §3, §4), read as the broker's own DID. */

export interface MemberCatalogOptions {
  readonly client: Pick<GuardedClient, 'request'>;
  readonly resolver: Pick<DidResolver, 'resolve'>;
  readonly tokens: Pick<TokenService, 'tokenFor'>;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly allowLoopbackHttp: boolean;
}

const versionPath = '/.well-known/dspace-version';
const versionBytes = 65_536;
export const requestTimeoutMs = 15_000;
const maxDepth = 64;

/** The frame of a page; its datasets are read one by one, so that a bad one spoils only itself. */
const catalogPage = z.looseObject({
  '@type': z.literal('Catalog'),
  participantId: z.string(),
  dataset: z.array(z.unknown()).max(10_000).optional(),
});

export const failed = (detail: string, cause?: unknown): AppError => new AppError('fetch-failed', { detail, cause });

export const readAnswer = <Value>(
  schema: z.ZodType<Value>,
  answer: ClientAnswer,
  maxBytes: number,
  what: string,
): Value => {
  if (answer.status !== 200) throw failed(`${what} answered ${answer.status}`);
  try {
    return schema.parse(parseJson(answer.body, { maxBytes, maxDepth }));
  } catch (cause) {
    throw failed(`${what} is not in the standard's form`, cause);
  }
};

/** `<base>` of the protocol: from the version document of the root that the DID document, or else the DID, names. */
export const findBase = async (
  { client, resolver, allowLoopbackHttp }: MemberCatalogOptions,
  member: Did,
): Promise<string> => {
  const document = await resolver.resolve(member);
  if (document === undefined) throw failed(`the DID document of ${member} cannot be had`);
  const catalogService = document.endpoint('CatalogService');
  const endpoint = document.endpoint('DataService') ?? catalogService ?? rootOfDid(member, allowLoopbackHttp);
  if (endpoint === undefined) throw failed(`${member} says nowhere where its catalog is`);
  const named = withoutSlash(endpoint);
  const root = named.endsWith(versionPath) ? named.slice(0, -versionPath.length) : named;
  const url = `${root}${versionPath}`;
  const headers = { accept: 'application/json' };
  const answer = await client.request({
    method: 'GET',
    url,
    headers,
    timeoutMs: requestTimeoutMs,
    maxBytes: versionBytes,
  });
  const { protocolVersions } = readAnswer(versionDocument, answer, versionBytes, url);
  const ours = protocolVersions.find(({ version, binding }) => version === protocolVersion && binding === 'HTTPS');
  if (ours === undefined) throw failed(`${member} does not speak version ${protocolVersion}`);
  return withoutSlash(`${root}${ours.path}`);
};

/** The address of the next page (RFC 8288), which must be of the same origin: the proof of who we are goes along. */
export const nextPage = (link: string | undefined, at: string): string | undefined => {
  for (const [, address = '', parameters = ''] of (link ?? '').matchAll(/<([^<>]*)>([^<]*)/g)) {
    if (!/;\s*rel\s*=\s*"?(?:[^";,]*\s)?next(?:\s[^";,]*)?"?\s*(?:[;,]|$)/i.test(parameters)) continue;
    if (!URL.canParse(address, at)) throw failed('the next page has no address');
    const { href, origin } = new URL(address, at);
    if (origin !== new URL(at).origin) throw failed('the next page is somebody else’s');
    return href;
  }
  return undefined;
};

const askPage = (
  { client, tokens, newId }: MemberCatalogOptions,
  member: Did,
  url: string,
  its: { readonly timeoutMs: number; readonly maxBytes: number },
): Promise<ClientAnswer> => {
  const id = newId();
  const body: Json = { '@context': [dspaceContext], '@type': 'CatalogRequestMessage', '@id': id };
  return client.request({
    method: 'POST',
    url,
    headers: {
      accept: 'application/json',
      'content-type': 'application/json',
      'idempotency-key': id,
      authorization: tokens.tokenFor({ audience: member }),
    },
    body: JSON.stringify(body),
    ...its,
  });
};

async function* readPages(
  options: MemberCatalogOptions,
  member: Did,
  limits: CatalogLimits,
): AsyncGenerator<readonly unknown[]> {
  const until = options.clock.now() + limits.maxMs;
  const seen = new Set<string>();
  let url: string | undefined = `${await findBase(options, member)}/catalog/request`;
  for (let bytes = 0; url !== undefined; ) {
    const left = until - options.clock.now();
    if (left <= 0) throw failed(`the catalog takes longer than ${limits.maxMs} ms`);
    if (seen.size >= limits.maxPages) throw failed(`the catalog has more than ${limits.maxPages} pages`);
    if (seen.has(url)) throw failed('a page of the catalog leads back to itself');
    seen.add(url);
    const maxBytes = Math.min(limits.maxPageBytes, limits.maxBytes - bytes);
    const answer: ClientAnswer = await askPage(options, member, url, {
      timeoutMs: Math.min(requestTimeoutMs, left),
      maxBytes,
    });
    bytes += answer.body.length;
    const page = readAnswer(catalogPage, answer, maxBytes, `the catalog of ${member}`);
    if (page.participantId !== member) throw failed(`the catalog says it is ${page.participantId}'s`);
    yield page.dataset ?? [];
    url = nextPage(answer.headers.link, url);
  }
}

/** Reads catalogs of members. */
export const createMemberCatalogs =
  (options: MemberCatalogOptions): ReadCatalog =>
  (member, limits) =>
    readPages(options, member, limits);
