import { z } from 'zod';
import { versionDocument } from '../../../contracts/dsp/catalog.ts';
import { protocolVersion, withoutSlash } from '../../../contracts/dsp/common.ts';
import { AppError } from '../../../contracts/errors.ts';
import { type Did, isDid, type ParticipantId } from '../../../contracts/ids.ts';
import { parseJson } from '../../../contracts/json.ts';
import type { Clock } from '../../../kernel/clock.ts';
import { type DidDocument, type DidResolver, rootOfDid } from '../../../kernel/did.ts';
import type { GuardedClient } from '../../../kernel/http/client.ts';
import type { PeerExtensions } from '../../negotiation/ports.ts';

/**
 * Where a peer takes messages: from its DID to its document, from there to its services (dsp §3, §9; wire §1). What
 * cannot be fetched is a fault and never "has none": else whoever cuts a line could talk a peer down to plain DSP.
 */

export interface Peers extends PeerExtensions {
  /** `<base>` of the Dataspace Protocol, without trailing slash. */
  readonly base: (did: Did) => Promise<string>;
  /** The address of an extension (`agreements`, `statements`, `tokens`, `receipts`); undefined when the peer has none. */
  readonly extension: (did: Did, id: string) => Promise<string | undefined>;
  /** The address under which a price plan of this peer is served (wire §2); undefined for a peer without extensions. */
  readonly pricePlan: (did: Did, digest: string) => Promise<string | undefined>;
}

export interface PeersOptions {
  readonly client: Pick<GuardedClient, 'request'>;
  readonly resolver: Pick<DidResolver, 'resolve'>;
  readonly clock: Clock;
  readonly allowLoopbackHttp: boolean;
  /** Where the version document of a peer stands that does not say it itself, by its id. */
  readonly addresses?: ReadonlyMap<string, string>;
}

const versionPath = '/.well-known/dspace-version';
const extensionPath = '/.well-known/stekker';
const extensionVersion = '1';
const timeoutMs = 5_000;
const limits = { maxBytes: 65_536, maxDepth: 12 };
const lifetimeMs = 300_000;
const maxCached = 10_000;

const extensionDocument = z.looseObject({
  extensions: z
    .array(
      z.looseObject({
        id: z.string().min(1).max(100),
        version: z.string().max(20),
        path: z.string().startsWith('/', 'does not begin with /').max(500),
      }),
    )
    .max(100),
});

const failed = (detail: string, cause?: unknown): AppError => new AppError('fetch-failed', { detail, cause });

const fetchDocument = async <Value>(
  { client }: PeersOptions,
  url: string,
  schema: z.ZodType<Value>,
): Promise<Value> => {
  const answer = await client.request({
    method: 'GET',
    url,
    headers: { accept: 'application/json' },
    timeoutMs,
    maxBytes: limits.maxBytes,
  });
  if (answer.status !== 200) throw failed(`${url} answered ${answer.status}`);
  try {
    return schema.parse(parseJson(answer.body, limits));
  } catch (cause) {
    throw failed(`${url} does not say what it should`, cause);
  }
};

/** The root that a service entry leads to: it names the well-known document, or the root itself. */
const rootOf = (endpoint: string, path: string): string => {
  const url = withoutSlash(endpoint);
  return withoutSlash(url.endsWith(path) ? url.slice(0, -path.length) : url);
};

/** The root whose version document counts: of the `DataService` entry, else of the DID itself. */
const protocolRoot = (options: PeersOptions, document: DidDocument): string => {
  const root = rootOf(
    document.endpoint('DataService') ?? rootOfDid(document.did, options.allowLoopbackHttp) ?? '',
    versionPath,
  );
  if (root === '') throw failed(`${document.did} says nowhere where it takes messages`);
  return root;
};

/** What the operator says of a peer counts before what it says itself. */
const findRoot = async (options: PeersOptions, did: Did): Promise<string> => {
  const told = options.addresses?.get(did);
  if (told !== undefined) return withoutSlash(told);
  if (isDid(did)) return protocolRoot(options, await findDocument(options, did));
  throw new AppError('not-found', { detail: `${did} is no DID, and STEKKER_PEERS does not say where it is` });
};

const findDocument = async ({ resolver }: PeersOptions, did: Did): Promise<DidDocument> => {
  const document = await resolver.resolve(did);
  if (document === undefined) throw failed(`the DID document of ${did} cannot be had`);
  return document;
};

const findBase = async (options: PeersOptions, did: Did): Promise<string> => {
  const root = await findRoot(options, did);
  const { protocolVersions } = await fetchDocument(options, `${root}${versionPath}`, versionDocument);
  const ours = protocolVersions.find(({ version, binding }) => version === protocolVersion && binding === 'HTTPS');
  if (ours === undefined) throw failed(`${did} does not speak version ${protocolVersion} of the protocol`);
  return withoutSlash(`${root}${ours.path}`);
};

interface Extensions {
  readonly root: string;
  readonly paths: ReadonlyMap<string, string>;
}

/** The extensions of a peer; undefined only when its document has no such service entry, or it has no DID (wire §1). */
const findExtensions = async (options: PeersOptions, did: Did): Promise<Extensions | undefined> => {
  if (!isDid(did)) return undefined;
  const endpoint = (await findDocument(options, did)).endpoint('StekkerExtensions');
  if (endpoint === undefined) return undefined;
  const root = rootOf(endpoint, extensionPath);
  const { extensions } = await fetchDocument(options, `${root}${extensionPath}`, extensionDocument);
  const known = extensions.filter(({ version }) => version === extensionVersion);
  return { root, paths: new Map(known.map(({ id, path }) => [id, `${root}${withoutSlash(path)}`])) };
};

/** Keeps what was found for a while, and lets those who ask at once share one fetch; faults are not kept. */
const remember = <Value>(clock: Clock, find: (did: Did) => Promise<Value>): ((did: Did) => Promise<Value>) => {
  const found = new Map<Did, { readonly value: Value; readonly until: number }>();
  const inFlight = new Map<Did, Promise<Value>>();
  const look = async (did: Did): Promise<Value> => {
    const value = await find(did);
    if (found.size >= maxCached) found.clear();
    found.set(did, { value, until: clock.now() + lifetimeMs });
    return value;
  };
  return (did) => {
    const known = found.get(did);
    if (known !== undefined && known.until > clock.now()) return Promise.resolve(known.value);
    const running = inFlight.get(did);
    if (running !== undefined) return running;
    const started = look(did).finally(() => inFlight.delete(did));
    inFlight.set(did, started);
    return started;
  };
};

export const createPeers = (options: PeersOptions): Peers => {
  const base = remember(options.clock, (did) => findBase(options, did));
  const extensions = remember(options.clock, (did) => findExtensions(options, did));
  const extension = async (did: Did, id: string): Promise<string | undefined> => (await extensions(did))?.paths.get(id);
  return {
    base,
    extension,
    agreements: (_participant: ParticipantId, peer) => extension(peer, 'agreements'),
    pricePlan: async (did, digest) => {
      const found = await extensions(did);
      return found === undefined ? undefined : `${found.root}/ext/1/prices/${encodeURIComponent(digest)}`;
    },
  };
};
