import { gunzipSync } from 'node:zlib';
import { fromBase64Url, textOf } from '../../contracts/bytes.ts';
import { bad, type Checked, good } from '../../contracts/ledger/forms.ts';
import { parsePeerTime } from '../../contracts/time.ts';
import type { Credential, StatusEntry, StatusListCredential } from '../../contracts/vc/credential.ts';
import { maxListBytes, minListEntries, readBit, readListIndex } from '../../contracts/vc/status-list.ts';
import type { Clock } from '../clock.ts';
import type { DidResolver } from '../did.ts';
import type { GuardedClient } from '../http/client.ts';
import { verifyStatusList } from './verify.ts';

/**
 * Bitstring status lists of others: read through the guarded client, verified, decoded once, kept while they hold. What
 * cannot be had, read or verified refuses: nobody is good because his list is silent (credentials §4 rows 1, 9 to 11).
 */

export interface StatusLists {
  /** Whether no bit of this credential is set; the value is until when, ms, the lists it was looked up in hold. */
  readonly check: (credential: Credential) => Promise<Checked<number>>;
  /** The next check reads every list again: called when somebody was revoked. */
  readonly forget: () => void;
}

export interface StatusListsOptions {
  readonly client: Pick<GuardedClient, 'request'>;
  readonly resolver: Pick<DidResolver, 'key'>;
  readonly clock: Clock;
}

interface List {
  readonly bits: Uint8Array;
  readonly until: number;
}

const fetchTimeoutMs = 2_000;
const maxAnswerBytes = 2 << 20;
const maxLists = 64;
const minAgeMs = 5_000;
/** A list that could not be had is not asked for again at once. */
const failedMs = 2_000;
const jwtTypes = /^application\/(vc\+jwt|jwt)\s*(;|$)/i;

/** The bits of an `encodedList`, with or without the multibase `u`; undefined when it is none, too short or a bomb. */
export const decodeList = (encoded: string): Uint8Array | undefined => {
  const packed = fromBase64Url(encoded.startsWith('u') ? encoded.slice(1) : encoded);
  if (packed === undefined) return undefined;
  try {
    const bits = gunzipSync(packed, { maxOutputLength: maxListBytes });
    return bits.length * 8 >= minListEntries ? bits : undefined;
  } catch {
    return undefined; // no gzip, or larger than a list may be
  }
};

const ageOf = (cacheControl: string | undefined): number => {
  const age = /max-age=(\d{1,9})/i.exec(cacheControl ?? '')?.[1];
  if (/no-store|no-cache/i.test(cacheControl ?? '')) return minAgeMs;
  return age === undefined ? Number.POSITIVE_INFINITY : Math.max(minAgeMs, Number(age) * 1_000);
};

/** The list that a credential names. */
interface Wanted {
  readonly url: string;
  readonly issuer: string;
  readonly purpose: StatusEntry['statusPurpose'];
}

/** What makes a verified list another one than was asked for. */
const differenceOf = ({ id, issuer, credentialSubject }: StatusListCredential, wanted: Wanted): string | undefined => {
  if (issuer !== wanted.issuer) return 'is of another issuer';
  if (id !== wanted.url) return 'has another id';
  return credentialSubject.statusPurpose === wanted.purpose ? undefined : 'has another purpose';
};

const purposeWords = { revocation: 'revoked', suspension: 'suspended' } as const;

/** Lists of others, with a bounded cache of decoded ones. */
export const createStatusLists = ({ client, resolver, clock }: StatusListsOptions): StatusLists => {
  const known = new Map<string, { readonly list: Promise<Checked<List>>; until: number }>();

  const read = async (wanted: Wanted): Promise<Checked<List>> => {
    const answer = await client.request({
      method: 'GET',
      url: wanted.url,
      headers: { accept: 'application/vc+jwt' },
      timeoutMs: fetchTimeoutMs,
      maxBytes: maxAnswerBytes,
    });
    if (answer.status !== 200 || !jwtTypes.test(answer.headers['content-type'] ?? ''))
      return bad(`the status list was answered with ${answer.status}`);
    const list = await verifyStatusList((textOf(answer.body) ?? '').trim(), { resolver, now: clock.now() });
    if (!list.ok) return bad(`the status list ${list.reason}`);
    const other = differenceOf(list.value, wanted);
    if (other !== undefined) return bad(`the status list ${other}`);
    const bits = decodeList(list.value.credentialSubject.encodedList);
    if (bits === undefined) return bad('the status list cannot be decoded');
    const age = ageOf(answer.headers['cache-control']);
    return good({ bits, until: Math.min(parsePeerTime(list.value.validUntil) ?? 0, clock.now() + age) });
  };

  /** One fetch for all who ask at once. */
  const load = (wanted: Wanted): Promise<Checked<List>> => {
    const key = JSON.stringify([wanted.url, wanted.issuer, wanted.purpose]);
    const cached = known.get(key);
    if (cached !== undefined && cached.until > clock.now()) return cached.list;
    known.delete(key);
    const [oldest] = known.keys();
    if (known.size >= maxLists && oldest !== undefined) known.delete(oldest);
    const list = read(wanted).catch((error: unknown) =>
      bad(`the status list cannot be had: ${error instanceof Error ? error.message : String(error)}`),
    );
    const entry = { list, until: clock.now() + fetchTimeoutMs };
    known.set(key, entry);
    return list.then((result) => {
      entry.until = result.ok ? result.value.until : clock.now() + failedMs;
      return result;
    });
  };

  const checkEntry = async (issuer: string, entry: StatusEntry): Promise<Checked<number>> => {
    const index = readListIndex(entry.statusListIndex);
    const list = await load({ url: entry.statusListCredential, issuer, purpose: entry.statusPurpose });
    if (!list.ok) return list;
    const isSet = index === undefined ? undefined : readBit(list.value.bits, index);
    if (isSet === undefined) return bad('the status list has no such entry');
    return isSet ? bad(purposeWords[entry.statusPurpose]) : good(list.value.until);
  };

  return {
    check: async ({ issuer, credentialStatus }) => {
      const results = await Promise.all(credentialStatus.map((entry) => checkEntry(issuer, entry)));
      let until = Number.POSITIVE_INFINITY;
      for (const result of results) {
        if (!result.ok) return result;
        until = Math.min(until, result.value);
      }
      return good(until);
    },
    forget: () => known.clear(),
  };
};
