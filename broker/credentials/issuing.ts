import { formatTime } from '../../contracts/time.ts';
import { buildCredential, type StatusEntry, type StatusPurpose } from '../../contracts/vc/credential.ts';
import { minListEntries } from '../../contracts/vc/status-list.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import { type Random, uuidV7 } from '../../kernel/random.ts';
import { issueAsDataIntegrity, issueAsJwt } from '../../kernel/vc/issue.ts';
import type { Grant, IssuedCredential, Places, StatusListStore } from './ports.ts';
import { maxUsedPlaces } from './rules.ts';
import { listUrl } from './status-lists.ts';

/** Makes a credential: one canonical JSON, signed in both forms (credentials §3). Nothing is stored here. */

export interface IssuingTools {
  readonly keys: ParticipantKeys;
  /** Public origin: where the status lists are served. */
  readonly origin: string;
  readonly lists: StatusListStore;
  readonly clock: Clock;
  readonly random: Random;
}

/** Uniform: the number of entries divides 2^24. */
const drawIndex = (random: Random): number => {
  const [a = 0, b = 0, c = 0] = random.bytes(3);
  return (a * 65_536 + b * 256 + c) % minListEntries;
};

/** A random free place: an index tells nothing about when a credential was issued, or to whom. */
const findPlace = async ({ keys, lists, random }: IssuingTools, purpose: StatusPurpose) => {
  const list = await lists.open(keys.did, purpose, maxUsedPlaces);
  for (;;) {
    const index = drawIndex(random);
    if (await lists.isFree(keys.did, { purpose, list, index })) return { list, index };
  }
};

const entryOf = (origin: string, purpose: StatusPurpose, places: Places): StatusEntry => {
  const { list, index } = places[purpose];
  const url = listUrl(origin, purpose, list);
  return {
    id: `${url}#${index}`,
    type: 'BitstringStatusListEntry',
    statusPurpose: purpose,
    statusListIndex: String(index),
    statusListCredential: url,
  };
};

/** A new credential for a grant, in both forms, with a place in a list of each purpose. */
export const makeCredential = async (tools: IssuingTools, grant: Grant): Promise<IssuedCredential> => {
  const { keys, origin, clock, random } = tools;
  const places: Places = {
    revocation: await findPlace(tools, 'revocation'),
    suspension: await findPlace(tools, 'suspension'),
  };
  const now = clock.now();
  const credential = buildCredential({
    id: `urn:uuid:${uuidV7(now, random)}`,
    issuer: keys.did,
    type: grant.type,
    subject: grant.subject,
    validFrom: formatTime(now),
    validUntil: formatTime(grant.validUntil),
    status: [entryOf(origin, 'revocation', places), entryOf(origin, 'suspension', places)],
  });
  return {
    issuer: keys.did,
    id: credential.id,
    grant: grant.key,
    holder: grant.subject.id,
    type: grant.type,
    credential,
    jwt: await issueAsJwt(credential, keys.assertion),
    dataIntegrity: await issueAsDataIntegrity(credential, keys),
    places,
    issuedAt: now,
    validUntil: grant.validUntil,
    standing: 'active',
    standingAt: now,
    version: 1,
  };
};
