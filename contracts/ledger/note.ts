import { concat, fromBase64, sameBytes, toBase64, toHex, u64, utf8 } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { bad, type Checked, ed25519Spki, good, isEd25519Spki } from './forms.ts';

/** Checkpoints as C2SP signed notes (ledger §6), and the policy text that says whose signatures are needed (§13). */

const maxSignatureLines = 64;
const maxNoteBytes = 65_536;
const logType = 0x01;
const witnessType = 0x04;

/** A verifier key: `name "+" hex(keyid) "+" b64(type || key)`. */
export interface VerifierKey {
  readonly text: string;
  readonly name: string;
  /** 4 bytes. */
  readonly keyId: Uint8Array;
  readonly type: number;
  /** 32 bytes, Ed25519. */
  readonly publicKey: Uint8Array;
}

const isName = (name: string): boolean => name !== '' && name.length <= 512 && !/[\s+\p{Cc}]/u.test(name);

/** The whole `H(name || 0x0A || type || key)`; its first four bytes are the key id. */
const keyDigest = (crypto: Pick<Crypto, 'sha256'>, name: string, typed: Uint8Array): Uint8Array =>
  crypto.sha256(concat(utf8(`${name}\n`), typed));

/** The verifier key text of an Ed25519 key, for a log (0x01) or a witness (0x04). */
export const buildVerifierKey = (
  crypto: Pick<Crypto, 'sha256'>,
  name: string,
  publicKey: Uint8Array,
  role: 'log' | 'witness' = 'log',
): string => {
  const typed = concat(Uint8Array.of(role === 'log' ? logType : witnessType), publicKey);
  return `${name}+${toHex(keyDigest(crypto, name, typed).subarray(0, 4))}+${toBase64(typed)}`;
};

/** Reads a verifier key; its key id must be the one its name and key give. */
export const readVerifierKey = (crypto: Pick<Crypto, 'sha256'>, text: string): Checked<VerifierKey> => {
  const [name, id, encoded, ...rest] = splitVerifierKey(text);
  const typed = encoded === undefined ? undefined : fromBase64(encoded);
  if (name === undefined || typed === undefined || rest.length > 0) return bad('is no verifier key');
  if (!isName(name) || typed.length !== 33) return bad('is no verifier key of Ed25519');
  const keyId = keyDigest(crypto, name, typed).subarray(0, 4);
  if (id !== toHex(keyId)) return bad('has a key id that does not belong to its key');
  const publicKey = typed.subarray(1);
  if (!isEd25519Spki(ed25519Spki(publicKey))) return bad('has a key that would verify anything');
  return good({ text, name, keyId, type: Number(typed[0]), publicKey });
};

/** Base64 may hold `+`, names may not: so only the first two signs separate. */
const splitVerifierKey = (text: string): string[] => {
  const first = text.indexOf('+');
  const second = text.indexOf('+', first + 1);
  return first < 0 || second < 0 ? [] : [text.slice(0, first), text.slice(first + 1, second), text.slice(second + 1)];
};

/** What a checkpoint says. */
export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  /** 32 bytes. */
  readonly root: Uint8Array;
}

/** The three lines that are signed. */
export const checkpointText = ({ origin, size, root }: Checkpoint): string => `${origin}\n${size}\n${toBase64(root)}\n`;

/** One signature line for a text. `keyId` is that of the signer's verifier key. */
export const signatureLine = (name: string, keyId: Uint8Array, signature: Uint8Array): string =>
  `\u2014 ${name} ${toBase64(concat(keyId, signature))}\n`;

/** What a witness signs (cosignature/v1): the time in seconds and the text. */
export const cosignatureMessage = (text: string, time: bigint): Uint8Array =>
  utf8(`cosignature/v1\ntime ${time}\n${text}`);

/** The bytes behind the key id in a witness's line. */
export const cosignatureBytes = (time: bigint, signature: Uint8Array): Uint8Array => concat(u64(time), signature);

interface SignatureLine {
  readonly name: string;
  readonly keyId: Uint8Array;
  readonly signature: Uint8Array;
}

export interface Note {
  readonly text: string;
  readonly checkpoint: Checkpoint;
  readonly lines: readonly SignatureLine[];
}

const readLine = (line: string): SignatureLine | undefined => {
  const match = /^\u2014 (\S+) (\S+)$/u.exec(line);
  const bytes = match?.[2] === undefined ? undefined : fromBase64(match[2]);
  if (match?.[1] === undefined || bytes === undefined || bytes.length < 5) return undefined;
  return { name: match[1], keyId: bytes.subarray(0, 4), signature: bytes.subarray(4) };
};

const readCheckpoint = (text: string): Checkpoint | undefined => {
  const lines = text.split('\n');
  const [origin = '', size = '', root = '', end] = lines;
  if (lines.length !== 4 || end !== '' || !isName(origin)) return undefined;
  const bytes = fromBase64(root);
  if (!/^(0|[1-9]\d{0,15})$/.test(size) || bytes?.length !== 32) return undefined;
  return Number.isSafeInteger(Number(size)) ? { origin, size: Number(size), root: bytes } : undefined;
};

/** Reads a note: three text lines, a blank one, signature lines; nothing is verified yet. */
export const readNote = (note: string): Checked<Note> => {
  if (utf8(note).length > maxNoteBytes) return bad('the note is longer than 64 KiB');
  const split = note.indexOf('\n\n');
  if (split < 0 || !note.endsWith('\n')) return bad('the note has no signature lines');
  const text = note.slice(0, split + 1);
  const checkpoint = readCheckpoint(text);
  if (checkpoint === undefined) return bad('the text is not origin, size and root');
  const lines = note
    .slice(split + 2, -1)
    .split('\n')
    .map(readLine);
  if (lines.length > maxSignatureLines) return bad(`more than ${maxSignatureLines} signature lines`);
  if (lines.some((line) => line === undefined)) return bad('a signature line cannot be read');
  return good({ text, checkpoint, lines: lines.filter((line) => line !== undefined) });
};

const verifyLine = (crypto: Crypto, text: string, line: SignatureLine, key: VerifierKey): boolean => {
  const spki = ed25519Spki(key.publicKey);
  if (key.type === logType) {
    return line.signature.length === 64 && crypto.verify('Ed25519', spki, utf8(text), line.signature);
  }
  if (key.type !== witnessType || line.signature.length !== 72) return false;
  const view = new DataView(line.signature.buffer, line.signature.byteOffset, 8);
  const message = cosignatureMessage(text, view.getBigUint64(0));
  return crypto.verify('Ed25519', spki, message, line.signature.subarray(8));
};

/** A reader's policy (ledger §13): which log, which witnesses, and how many of them. */
export interface Policy {
  readonly log: VerifierKey;
  readonly witnesses: ReadonlyMap<string, VerifierKey>;
  readonly quorum: Quorum;
}

type Quorum =
  | { readonly kind: 'none' }
  | { readonly kind: 'witness'; readonly name: string }
  | { readonly kind: 'group'; readonly atLeast: number; readonly members: readonly Quorum[] };

interface PolicyDraft {
  log: VerifierKey | undefined;
  readonly witnesses: Map<string, VerifierKey>;
  readonly names: Map<string, Quorum>;
  quorum: Quorum | undefined;
}

const addGroup = (draft: PolicyDraft, words: readonly string[]): string | undefined => {
  const [, groupName = '', threshold = '', ...members] = words;
  const found = members.map((member) => draft.names.get(member)).filter((member) => member !== undefined);
  if (found.length !== members.length || members.length === 0) return 'a group names somebody who is not defined above';
  if (new Set(members).size !== members.length) return 'a group names somebody twice';
  const atLeast = threshold === 'all' ? members.length : threshold === 'any' ? 1 : Number(threshold);
  if (!Number.isInteger(atLeast) || atLeast < 1 || atLeast > members.length) return 'a group has no possible threshold';
  if (draft.names.has(groupName) || !isName(groupName)) return 'a name is taken or not possible';
  draft.names.set(groupName, { kind: 'group', atLeast, members: found });
  return undefined;
};

const addWitness = (
  crypto: Pick<Crypto, 'sha256'>,
  draft: PolicyDraft,
  words: readonly string[],
): string | undefined => {
  const [, witnessName = '', vkey = ''] = words;
  const key = readVerifierKey(crypto, vkey);
  if (!key.ok || key.value.type !== witnessType) return 'a witness has no usable key';
  if (draft.names.has(witnessName) || !isName(witnessName)) return 'a name is taken or not possible';
  if ([...draft.witnesses.values()].some((known) => sameBytes(known.publicKey, key.value.publicKey))) {
    return 'a key stands under two names';
  }
  draft.witnesses.set(witnessName, key.value);
  draft.names.set(witnessName, { kind: 'witness', name: witnessName });
  return undefined;
};

const addLine = (crypto: Pick<Crypto, 'sha256'>, draft: PolicyDraft, words: readonly string[]): string | undefined => {
  const [verb = '', subject = ''] = words;
  switch (verb) {
    case 'log': {
      const key = readVerifierKey(crypto, subject);
      if (!key.ok || key.value.type !== logType || draft.log !== undefined)
        return 'one log with a usable key is needed';
      draft.log = key.value;
      return undefined;
    }
    case 'witness':
      return addWitness(crypto, draft, words);
    case 'group':
      return addGroup(draft, words);
    case 'quorum': {
      const quorum: Quorum | undefined = subject === 'none' ? { kind: 'none' } : draft.names.get(subject);
      if (quorum === undefined || draft.quorum !== undefined || words.length !== 2)
        return 'one quorum of a known name is needed';
      draft.quorum = quorum;
      return undefined;
    }
    default:
      return `a line begins with ${verb}`;
  }
};

/** Reads a policy text, line by line. */
export const readPolicy = (crypto: Pick<Crypto, 'sha256'>, text: string): Checked<Policy> => {
  const draft: PolicyDraft = { log: undefined, witnesses: new Map(), names: new Map(), quorum: undefined };
  for (const line of text.split('\n').filter((one) => one !== '' && !one.startsWith('#'))) {
    const fault = addLine(crypto, draft, line.split(' '));
    if (fault !== undefined) return bad(fault);
  }
  const { log, witnesses, quorum } = draft;
  return log === undefined || quorum === undefined ? bad('needs a log and a quorum') : good({ log, witnesses, quorum });
};

const isReached = (quorum: Quorum, signed: ReadonlySet<string>): boolean => {
  switch (quorum.kind) {
    case 'none':
      return true;
    case 'witness':
      return signed.has(quorum.name);
    case 'group':
      return quorum.members.filter((member) => isReached(member, signed)).length >= quorum.atLeast;
  }
};

/** The known keys that signed the text, or why the note is refused. */
const signersOf = (crypto: Crypto, note: Note, known: readonly VerifierKey[]): Checked<ReadonlySet<VerifierKey>> => {
  const signers = new Set<VerifierKey>();
  for (const line of note.lines) {
    const key = known.find((one) => one.name === line.name && sameBytes(one.keyId, line.keyId));
    if (key === undefined) continue;
    if (!verifyLine(crypto, note.text, line, key)) return bad(`the signature of ${line.name} does not hold`);
    signers.add(key);
  }
  return good(signers);
};

/**
 * Verifies a checkpoint under a reader's policy (ledger §6): lines of unknown keys are ignored, a known key's line that
 * fails refuses the whole, the log's own line must be there, origin must be the key's name, the quorum must be reached.
 */
export const verifyNote = (crypto: Crypto, noteText: string, policy: Policy): Checked<Checkpoint> => {
  const note = readNote(noteText);
  if (!note.ok) return note;
  if (note.value.checkpoint.origin !== policy.log.name) return bad('the origin is not the name of the log key');
  const signers = signersOf(crypto, note.value, [policy.log, ...policy.witnesses.values()]);
  if (!signers.ok) return signers;
  if (!signers.value.has(policy.log)) return bad('the log itself has not signed');
  const witnesses = new Set(
    [...policy.witnesses].filter(([, key]) => signers.value.has(key)).map(([witness]) => witness),
  );
  return isReached(policy.quorum, witnesses)
    ? good(note.value.checkpoint)
    : bad('the quorum of witnesses is not reached');
};
