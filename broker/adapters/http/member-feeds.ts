import { z } from 'zod';
import { catalogChanges, catalogChangesPath } from '../../../contracts/catalog-changes.ts';
import { withoutSlash } from '../../../contracts/dsp/common.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { Did } from '../../../contracts/ids.ts';
import type { ClientAnswer } from '../../../kernel/http/client.ts';
import type { CatalogFeeds, CatalogLimits, ChangedDatasets } from '../../store/ports.ts';
import {
  failed,
  findBase,
  type MemberCatalogOptions,
  nextPage,
  readAnswer,
  requestTimeoutMs,
} from './member-catalogs.ts';

/** Changes of the catalogs of members (dsp §12.4), read as the broker's own DID; a member says in its DID document where. */

const extensionPath = '/.well-known/stekker';
const documentBytes = 65_536;
/** Datasets that are asked for one by one; above it the whole catalog is less work. */
const maxChanged = 1_000;
const pageLimit = 100;

const extensions = z.looseObject({
  extensions: z
    .array(z.looseObject({ id: z.string(), version: z.string(), path: z.string().startsWith('/') }))
    .max(100),
});

/** The address of a member's feed; undefined when it announces none. */
const findFeed = async (options: MemberCatalogOptions, member: Did): Promise<string | undefined> => {
  const endpoint = (await options.resolver.resolve(member))?.endpoint('StekkerExtensions');
  if (endpoint === undefined) return undefined;
  const named = withoutSlash(endpoint);
  const root = named.endsWith(extensionPath) ? named.slice(0, -extensionPath.length) : named;
  const url = `${root}${extensionPath}`;
  const answer = await options.client.request({
    method: 'GET',
    url,
    headers: { accept: 'application/json' },
    timeoutMs: requestTimeoutMs,
    maxBytes: documentBytes,
  });
  const found = readAnswer(extensions, answer, documentBytes, url).extensions;
  const feed = found.find(({ id, version }) => id === 'catalog' && version === '1');
  return feed === undefined ? undefined : `${root}${withoutSlash(feed.path)}${catalogChangesPath}`;
};

/** What reading a feed may still take. */
interface Left {
  bytes: number;
  changed: number;
  readonly until: number;
}

const ask = async (
  { client, tokens, clock }: MemberCatalogOptions,
  member: Did,
  url: string,
  left: Left,
): Promise<ClientAnswer> => {
  const ms = left.until - clock.now();
  if (ms <= 0 || left.bytes <= 0) throw failed(`the changes of ${member} take too long or are too much`);
  const answer = await client.request({
    method: 'GET',
    url,
    headers: { accept: 'application/json', authorization: tokens.tokenFor({ audience: member }) },
    timeoutMs: Math.min(requestTimeoutMs, ms),
    maxBytes: left.bytes,
  });
  left.bytes -= answer.body.length;
  if (answer.status === 410) throw new AppError('cursor-expired');
  return answer;
};

const datasetOf = z.looseObject({ '@id': z.string() });

/** Changed datasets as they look now: the last word on each counts, and one that is gone by now is removed. */
const look = async (
  options: MemberCatalogOptions,
  its: { readonly member: Did; readonly base: string; readonly left: Left },
  page: z.infer<typeof catalogChanges>,
): Promise<ChangedDatasets> => {
  const { member, base, left } = its;
  const last = new Map(page.changes.map(({ dataset, change }) => [dataset, change]));
  const shown: { id: string; dataset: unknown }[] = [];
  const removed: string[] = [];
  for (const [id, change] of last) {
    left.changed -= 1;
    if (left.changed < 0) throw failed(`more than ${maxChanged} datasets of ${member} changed`);
    const url = `${base}/catalog/datasets/${encodeURIComponent(id)}`;
    const answer = change === 'removed' ? undefined : await ask(options, member, url, left);
    if (answer === undefined || answer.status === 404) removed.push(id);
    else {
      const dataset = readAnswer(datasetOf, answer, answer.body.length, url);
      if (dataset['@id'] !== id) throw failed(`${url} is another dataset`);
      shown.push({ id, dataset });
    }
  }
  return { shown, removed, cursor: page.cursor };
};

async function* followFeed(
  options: MemberCatalogOptions,
  { member, cursor, limits }: { readonly member: Did; readonly cursor: string; readonly limits: CatalogLimits },
): AsyncGenerator<ChangedDatasets> {
  const feed = await findFeed(options, member);
  if (feed === undefined) throw failed(`${member} no longer tells the changes of its catalog`);
  const base = await findBase(options, member);
  const left: Left = { bytes: limits.maxBytes, changed: maxChanged, until: options.clock.now() + limits.maxMs };
  let url: string | undefined = `${feed}?cursor=${encodeURIComponent(cursor)}&limit=${pageLimit}`;
  for (let pages = 0; url !== undefined; pages += 1) {
    if (pages >= limits.maxPages) throw failed(`the changes of ${member} have more than ${limits.maxPages} pages`);
    const answer: ClientAnswer = await ask(options, member, url, left);
    const page = readAnswer(catalogChanges, answer, limits.maxPageBytes, `the feed of ${member}`);
    yield await look(options, { member, base, left }, page);
    url = nextPage(answer.headers.link, url);
  }
}

/** Follows the feeds of members. */
export const createMemberFeeds = (options: MemberCatalogOptions): CatalogFeeds => ({
  begin: async (member) => {
    const feed = await findFeed(options, member);
    if (feed === undefined) return undefined;
    const left: Left = { bytes: documentBytes, changed: 0, until: options.clock.now() + requestTimeoutMs };
    const answer = await ask(options, member, feed, left);
    return readAnswer(catalogChanges, answer, documentBytes, `the feed of ${member}`).cursor;
  },
  follow: (member, cursor, limits) => followFeed(options, { member, cursor, limits }),
});
