import { gzipSync } from 'node:zlib';
import { toBase64Url } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import { formatTime } from '../../contracts/time.ts';
import { credentialsContext, type StatusListCredential, type StatusPurpose } from '../../contracts/vc/credential.ts';
import { emptyBits } from '../../contracts/vc/status-list.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import { issueAsJwt } from '../../kernel/vc/issue.ts';
import type { StatusListStore } from './ports.ts';
import { isListFresh, listLifetimeMs, listMaxAgeSeconds } from './rules.ts';

/** Bitstring Status Lists as signed credentials (credentials §7): signed when a bit changed, or when half a life is over. */

/** Where a list is served. */
export const listUrl = (origin: string, purpose: StatusPurpose, list: number): string =>
  `${origin}/status/${purpose}-${list}`;

export interface StatusListTools {
  readonly keys: ParticipantKeys;
  readonly origin: string;
  readonly lists: StatusListStore;
  readonly clock: Clock;
}

export interface ServedList {
  readonly jwt: string;
  readonly maxAgeSeconds: number;
}

interface Signed {
  readonly version: number;
  readonly signedAt: number;
  readonly jwt: string;
}

const nameForm = /^(revocation|suspension)-([1-9]\d{0,6})$/;

/** Multibase base64url of the compressed bits (Bitstring Status List §3.2), the most significant bit first. */
const encodeList = (indexes: readonly number[]): string => {
  const bits = emptyBits();
  for (const index of indexes) {
    const at = Math.floor(index / 8);
    bits[at] = (bits[at] ?? 0) | (0x80 >> (index % 8));
  }
  return `u${toBase64Url(gzipSync(bits))}`;
};

/** Serves lists by name; throws AppError `not-found` for one that was never opened. */
export const createStatusLists = (tools: StatusListTools): ((name: string) => Promise<ServedList>) => {
  const { keys, origin, lists, clock } = tools;
  const cache = new Map<string, Signed>();

  const sign = async (purpose: StatusPurpose, list: number, version: number): Promise<Signed> => {
    const id = listUrl(origin, purpose, list);
    const signedAt = clock.now();
    const credential: StatusListCredential = {
      '@context': [credentialsContext],
      id,
      type: ['VerifiableCredential', 'BitstringStatusListCredential'],
      issuer: keys.did,
      validFrom: formatTime(signedAt),
      validUntil: formatTime(signedAt + listLifetimeMs[purpose]),
      credentialSubject: {
        id: `${id}#list`,
        type: 'BitstringStatusList',
        statusPurpose: purpose,
        encodedList: encodeList(await lists.marked(keys.did, purpose, list)),
      },
    };
    return { version, signedAt, jwt: await issueAsJwt(credential, keys.assertion) };
  };

  return async (name) => {
    const [, purpose, number] = nameForm.exec(name) ?? [];
    if (purpose !== 'revocation' && purpose !== 'suspension') throw new AppError('not-found');
    const list = Number(number);
    // The version is read before the bits: a change in between is signed under the older version, and again next time.
    const found = await lists.find(keys.did, purpose, list);
    if (found === undefined) throw new AppError('not-found');
    const known = cache.get(name);
    const isGood =
      known?.version === found.version && isListFresh(known.signedAt, listLifetimeMs[purpose], clock.now());
    const signed = isGood ? known : await sign(purpose, list, found.version);
    cache.set(name, signed);
    return { jwt: signed.jwt, maxAgeSeconds: listMaxAgeSeconds[purpose] };
  };
};
