import { toHex, utf8 } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import { canonicalize, type Json } from '../../contracts/json.ts';
import { credentialsContext, stekkerContext, stekkerContextDocument } from '../../contracts/vc/credential.ts';
import { nodeCrypto } from '../crypto.ts';

/**
 * The one module that imports the JSON-LD and Data Integrity packages. They are loaded on demand, because they are large;
 * their contexts are pinned by hash, and nothing is ever fetched (credentials §4 rows 3, 16, 17).
 */

/** What a document loader of these packages answers. */
interface LoadedDocument {
  readonly contextUrl: null;
  readonly documentUrl: string;
  readonly document: object;
}
export type DocumentLoader = (url: string) => Promise<LoadedDocument>;

interface Outcome {
  readonly verified: boolean;
  readonly error?: unknown;
}

/** The packages' calls that we use, as they are. */
export interface LinkedData {
  readonly issue: (options: object) => Promise<object>;
  readonly verifyCredential: (options: object) => Promise<Outcome>;
  readonly DataIntegrityProof: new (options: object) => object;
  readonly cryptosuite: object;
  /** Serves the pinned contexts, then what `more` knows; everything else is refused. */
  readonly loader: (more?: ReadonlyMap<string, object>) => DocumentLoader;
}

/** SHA-256 of the canonical JSON of each context: another text under the same name would give signed words another meaning. */
export const pinnedContexts: Readonly<Record<string, string>> = {
  [credentialsContext]: 'b463c8d6a066214123ddd9827b135e1b50e1fc73322cc52a9b12a4f1fc7d86cf',
  [stekkerContext]: 'e469d7e0da42269003e8ded4479bd58c49e514e33e7b4414a7fbd80849a3d76e',
};

export const contextDigest = (document: object): string =>
  toHex(nodeCrypto.sha256(utf8(canonicalize(document as Json))));

/** @throws AppError `invariant-broken` when a context is not the one that was pinned. */
export const pinned = (url: string, document: object | undefined): object => {
  if (document === undefined || contextDigest(document) !== pinnedContexts[url])
    throw new AppError('invariant-broken', { detail: `the context ${url} is not the one that was pinned` });
  return document;
};

const refuseUrl: DocumentLoader = (url) =>
  Promise.reject(new AppError('address-refused', { detail: `${url.slice(0, 200)} is not loaded for JSON-LD` }));

const load = async (): Promise<LinkedData> => {
  const [vc, integrity, suite, credentials, { default: jsonld }] = await Promise.all([
    import('@digitalbazaar/vc'),
    import('@digitalbazaar/data-integrity'),
    import('@digitalbazaar/eddsa-rdfc-2022-cryptosuite'),
    import('@digitalbazaar/credentials-context'),
    import('jsonld'),
  ]);
  jsonld.documentLoader = refuseUrl; // a call that forgets our loader must not reach the network
  const contexts = new Map([
    [credentialsContext, pinned(credentialsContext, credentials.contexts.get(credentialsContext))],
    [stekkerContext, pinned(stekkerContext, stekkerContextDocument)],
  ]);
  return {
    issue: vc.issue,
    verifyCredential: vc.verifyCredential,
    DataIntegrityProof: integrity.DataIntegrityProof,
    cryptosuite: suite.cryptosuite,
    loader: (more) => (url) => {
      const document = contexts.get(url) ?? more?.get(url);
      return document === undefined
        ? refuseUrl(url)
        : Promise.resolve({ contextUrl: null, documentUrl: url, document });
    },
  };
};

let loading: Promise<LinkedData> | undefined;

/** The packages, loaded at the first call. */
export const loadLinkedData = (): Promise<LinkedData> => {
  loading ??= load();
  return loading;
};
