import { generateKeyPairSync } from 'node:crypto';
import type { Did } from '../../contracts/ids.ts';
import { formatTime } from '../../contracts/time.ts';
import {
  buildCredential,
  type Credential,
  type StatusEntry,
  type StatusPurpose,
} from '../../contracts/vc/credential.ts';
import { type ParticipantKeys, participantKeys } from '../../kernel/keys.ts';
import { ed25519FromByte, p256FromByte } from './keys.ts';
import { markedRandom } from './secrets.ts';

/** Participants with keys from one byte each, and credentials about them. */

export const start = 1_795_431_600_000;
const dayMs = 86_400_000;

/** The keys of a participant, always the same for one byte. */
export const keysOf = (did: string, byte: number): ParticipantKeys => {
  const keys = new Map([
    ['assertion', ed25519FromByte(byte)],
    ['authentication', p256FromByte(byte)],
    ['keyAgreement', p256FromByte(byte + 1)],
    ['accessToken', p256FromByte(byte + 2)],
  ]);
  return participantKeys(did as Did, {
    key: (name) => (keys.get(name) ?? ed25519FromByte(byte)).privateKey,
    secret: () => new Uint8Array(32).fill(byte),
  });
};

/** Keys that nobody had before, for participants whose DIDs may come back with a port. */
export const freshKeys = (did: Did): ParticipantKeys => {
  const key = (name: string) =>
    name === 'assertion'
      ? generateKeyPairSync('ed25519').privateKey
      : generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  return participantKeys(did, { key, secret: () => markedRandom.bytes(32) });
};

/** Both status entries of a credential; `list` is where the lists are served, without the purpose. */
export const statusEntries = (list: string, index: number): StatusEntry[] =>
  (['revocation', 'suspension'] satisfies StatusPurpose[]).map((statusPurpose) => ({
    type: 'BitstringStatusListEntry',
    statusPurpose,
    statusListIndex: String(index),
    statusListCredential: `${list}-${statusPurpose}`,
  }));

export interface CredentialOptions {
  readonly issuer: Did;
  readonly subject: Did;
  readonly list: string;
  readonly id?: string;
  readonly index?: number;
  readonly from?: number;
  readonly until?: number;
}

const partsOf = ({ issuer, list, id, index = 94_567, from = start, until = start + dayMs }: CredentialOptions) => ({
  id: id ?? 'urn:uuid:0198c6a0-0000-7000-8000-000000000001',
  issuer,
  validFrom: formatTime(from),
  validUntil: formatTime(until),
  status: statusEntries(list, index),
});

export const membershipOf = (options: CredentialOptions): Credential =>
  buildCredential({
    ...partsOf(options),
    type: 'MembershipCredential',
    subject: { id: options.subject, role: ['participant'], memberOf: options.issuer },
  });

export const accreditationOf = (options: CredentialOptions): Credential =>
  buildCredential({
    ...partsOf(options),
    type: 'ApplicationAccreditationCredential',
    subject: {
      id: options.subject,
      application: { id: 'urn:stekker:1:app:evacuatie', version: '1.2.0', digest: 'sha256-abc' },
      purposes: ['urn:stekker:1:purpose:flood-response'],
      criteria: { id: 'urn:stekker:1:criteria:models', version: '1' },
      accreditor: options.issuer,
      level: 'substantial',
    },
  });
