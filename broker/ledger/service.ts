import { fromBase64Url, orNothing, toBase64, toBase64Url, toHex, utf8 } from '../../contracts/bytes.ts';
import type { Crypto } from '../../contracts/crypto.ts';
import { AppError } from '../../contracts/errors.ts';
import { didOfKid } from '../../contracts/ids.ts';
import { buildEntry, type LogEntry } from '../../contracts/ledger/entry.ts';
import {
  assembleJws,
  encodeProtected,
  type GeneralJws,
  jwsText,
  readJws,
  signingInput,
  verifySignature,
} from '../../contracts/ledger/jws.ts';
import { readPolicy, readVerifierKey, type VerifierKey } from '../../contracts/ledger/note.ts';
import { promiseKid, promiseText } from '../../contracts/ledger/promise.ts';
import { type KeyEvent, publicText, registryKid } from '../../contracts/ledger/public-entries.ts';
import { type EquivocationProof, readEquivocation, type StatementSums } from '../../contracts/ledger/statement.ts';
import { inclusionFromTiles } from '../../contracts/ledger/tile-proofs.ts';
import { isIncluded } from '../../contracts/ledger/tree.ts';
import { formatTime } from '../../contracts/time.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Random } from '../../kernel/random.ts';
import type { VerifyInPool } from '../../kernel/verify-pool.ts';
import { type AdmissionTools, admit, type Candidate, joinCodeHash, publicCandidate } from './admission.ts';
import { type AuditReport, auditFiles } from './audit.ts';
import { createKeyBook, type KeyBook, readPublicText } from './key-book.pure.ts';
import type {
  ArtifactSeal,
  ArtifactStore,
  ChainHead,
  CheckpointFeed,
  EntryRow,
  FetchDidDocument,
  JoinCodeStore,
  LogFiles,
  LogKeys,
  LogStore,
  Origin,
  Registered,
  SignedStore,
  SubjectRow,
  WitnessRound,
} from './ports.ts';
import { Publisher } from './publisher.ts';
import { dueEffects } from './rules.ts';
import { defaultSequencerLimits, type Outcome, Sequencer, type SequencerLimits } from './sequencer.ts';
import { checkStart } from './start.ts';

/** The log as one service: registration, promises, proofs, what is public, and what only parties may read (ledger §9). */

export interface LedgerOptions {
  /** `broker.example/log/2026` */
  readonly origin: Origin;
  readonly store: LogStore;
  readonly artifacts: ArtifactStore;
  readonly joinCodes: JoinCodeStore;
  readonly files: LogFiles;
  readonly signed: SignedStore;
  readonly keys: LogKeys;
  readonly chain: ChainHead;
  readonly seal: ArtifactSeal;
  readonly fetchDidDocument: FetchDidDocument;
  readonly feed: CheckpointFeed;
  /** No witnesses without it. */
  readonly witness?: WitnessRound;
  readonly crypto: Crypto;
  readonly verifyInPool: VerifyInPool;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Whose signatures a reader should ask for; `quorum none` as long as there are no witnesses. */
  readonly policy?: string;
  readonly limits?: Partial<SequencerLimits>;
  /** A checkpoint is published at most this often, ms. */
  readonly checkpointMs?: number;
  /** Hears of each entry, in order, once it is durable; must return at once and never throw. */
  readonly onEntry?: (subject: SubjectRow) => void;
}

/** Where an entry stands, for a receipt (ledger §11). */
export interface LogProof {
  readonly index: string;
  /** b64u, from the leaf's sibling up. */
  readonly path: readonly string[];
  readonly checkpoint: string;
}

export interface NewestStatement {
  readonly artifact: unknown;
  readonly sums: StatementSums;
}

/** One caller may have this part of the queue waiting: nobody keeps the others out. */
const shareOfOneCaller = 0.2;

/** How often the log looks for key events whose day has come. */
const effectCheckMs = 60_000;
const joinCodeBytes = 20;

const policyOf = (options: LedgerOptions): string => options.policy ?? `log ${options.keys.vkey}\nquorum none\n`;

const readKey = (options: LedgerOptions): VerifierKey => {
  const key = readVerifierKey(options.crypto, options.keys.vkey);
  if (!key.ok || key.value.name !== options.origin)
    throw new AppError('config-invalid', { detail: 'the log key does not carry the name of the log' });
  const policy = readPolicy(options.crypto, policyOf(options));
  if (!policy.ok || policy.value.log.text !== options.keys.vkey)
    throw new AppError('config-invalid', {
      detail: `the policy ${policy.ok ? 'names another log key' : policy.reason}`,
    });
  return key.value;
};

/** Signs the entry of a public artifact with the registry key that genesis names. */
const registryEntry =
  ({ crypto, keys }: LedgerOptions) =>
  async (artifact: Uint8Array): Promise<LogEntry> =>
    buildEntry({
      digest: crypto.sha256(artifact),
      signature: await keys.signAsRegistry(artifact, 'der'),
      spki: keys.registryKey,
    });

export class Ledger {
  readonly #options: LedgerOptions;
  readonly #key: VerifierKey;
  readonly #keyBook: KeyBook;
  readonly #sequencer: Sequencer;
  readonly #publisher: Publisher;
  readonly #admission: AdmissionTools;
  readonly #closing = new AbortController();
  #effects: Promise<void> = Promise.resolve();
  readonly #admitting = new Map<string, number>();
  #admittingOfAll = 0;

  private constructor(
    options: LedgerOptions,
    parts: { key: VerifierKey; keyBook: KeyBook; sequencer: Sequencer; publisher: Publisher },
  ) {
    this.#options = options;
    this.#key = parts.key;
    this.#keyBook = parts.keyBook;
    this.#sequencer = parts.sequencer;
    this.#publisher = parts.publisher;
    this.#admission = { ...options, keyBook: parts.keyBook, publicEntry: registryEntry(options) };
  }

  /**
   * Checks everything of ledger §12 "start-up checks", makes the genesis of a new log, and begins to work.
   *
   * @throws AppError `backup-restored`, `data-damaged`, `config-invalid`.
   */
  static async start(options: LedgerOptions): Promise<Ledger> {
    const { origin, store, crypto, log } = options;
    const key = readKey(options);
    const { head, start } = await checkStart({ ...options, key });
    const keyBook = createKeyBook(crypto, { origin, registryKey: options.keys.registryKey });
    for (const row of await store.publicRows(origin)) keyBook.add(row);
    const publisher: Publisher = new Publisher(
      {
        ...options,
        key,
        witness: options.witness ?? (async (note) => ({ note, isReached: true })),
        intervalMs: options.checkpointMs ?? 1_000,
        onFatal: (error) => sequencer.stop(error),
      },
      start,
      head,
    );
    const sequencer: Sequencer = new Sequencer(
      {
        origin,
        store,
        keyBook,
        crypto,
        clock: options.clock,
        log,
        limits: { ...defaultSequencerLimits, ...options.limits },
        onCommit: (next) => publisher.wake(next),
        onEntry: options.onEntry ?? (() => undefined),
      },
      head,
    );
    const ledger = new Ledger(options, { key, keyBook, sequencer, publisher });
    if (head.size === 0) await ledger.#makeGenesis();
    else await ledger.#checkGenesis();
    if (start.published !== undefined) options.feed(start.published.note);
    publisher.wake(sequencer.head);
    ledger.#effects = ledger.#watchEffects();
    return ledger;
  }

  get origin(): Origin {
    return this.#options.origin;
  }

  get size(): number {
    return this.#sequencer.head.size;
  }

  /** False once this log takes nothing more until a new start has checked the rows. */
  get isWorking(): boolean {
    return this.#sequencer.isWorking;
  }

  /** Whether this DID has introduced its keys. */
  hasJoined(did: string): boolean {
    return this.#keyBook.historyOf(did).events.length > 0;
  }

  /** The newest published checkpoint, or undefined before the first. */
  get checkpoint(): string | undefined {
    return this.#publisher.published?.note;
  }

  /**
   * Registers what a party sends (ledger §9); answers once the entry is durable.
   *
   * @throws AppError of the reason: `body-invalid`, `entry-refused`, `forbidden`, `statement-conflict`, `busy`, `log-stopped`.
   */
  async register(body: unknown, caller: string): Promise<Registered> {
    this.#enter(caller);
    try {
      const candidate = await admit(this.#admission, body, caller);
      return await this.#answer(candidate, await this.#sequencer.submit(candidate));
    } finally {
      this.#leave(caller);
    }
  }

  #enter(caller: string): void {
    const { maxWaiting } = { ...defaultSequencerLimits, ...this.#options.limits };
    const own = this.#admitting.get(caller) ?? 0;
    if (this.#admittingOfAll >= maxWaiting || own >= Math.ceil(maxWaiting * shareOfOneCaller))
      throw new AppError('busy', { retryAfterSeconds: 1 });
    this.#admittingOfAll += 1;
    this.#admitting.set(caller, own + 1);
  }

  #leave(caller: string): void {
    const left = (this.#admitting.get(caller) ?? 0) - 1;
    this.#admittingOfAll -= 1;
    if (left > 0) this.#admitting.set(caller, left);
    else this.#admitting.delete(caller);
  }

  /**
   * Where entry `index` stands in the published tree.
   *
   * @throws AppError `not-found`, `not-yet` while no checkpoint covers it, `data-damaged` when tiles and checkpoint differ.
   */
  async proof(index: number): Promise<LogProof> {
    const { store, crypto, files, origin } = this.#options;
    const [row] = await store.entries(origin, index, index + 1);
    if (row === undefined) throw new AppError('not-found');
    const published = this.#publisher.published;
    if (published === undefined || index >= published.size) throw new AppError('not-yet', { retryAfterSeconds: 1 });
    const { size, root, note } = published;
    const path = await inclusionFromTiles(crypto, { index, size }, files.read);
    const leaf = orNothing(fromBase64Url(row.leaf));
    const expected = orNothing(fromBase64Url(root));
    if (!path.ok || !isIncluded(crypto, leaf, { index, size, path: path.value, root: expected }))
      throw new AppError('data-damaged', { detail: `the tiles do not prove entry ${index}: run the audit` });
    return { index: String(index), path: path.value.map(toBase64Url), checkpoint: note };
  }

  /** The newest statement of an agreement, for its parties; `not-found` for everybody else and when there is none. */
  async newestStatement(agreementDigest: string, caller: string): Promise<NewestStatement> {
    const { store, origin } = this.#options;
    const wanted = { leaves: [], pids: [], statements: [], joinCodes: [], agreements: [agreementDigest] };
    const { agreements, statements } = await store.load(origin, wanted);
    const [agreement] = agreements;
    const [newest] = statements;
    const isParty = agreement?.provider === caller || agreement?.consumer === caller;
    const artifact = newest && isParty ? await this.#artifactAt(newest.index) : undefined;
    if (newest === undefined || artifact === undefined) throw new AppError('not-found');
    return { artifact, sums: newest.sums };
  }

  /** Proofs of double signing under an agreement, for its parties. */
  async equivocations(agreementDigest: string, caller: string): Promise<readonly EquivocationProof[]> {
    const kept = await this.#options.artifacts.equivocations(this.#options.origin, agreementDigest);
    const first = kept[0] && readEquivocation(kept[0].proof);
    const parties: readonly string[] = first?.ok ? [first.value.a.value.provider, first.value.a.value.consumer] : [];
    if (!parties.includes(caller)) throw new AppError('not-found');
    return kept.map(({ proof }) => proof);
  }

  /**
   * Takes a proof that somebody signed two statements for one number; one valid signature on each suffices.
   *
   * @returns the DIDs that it convicts. @throws AppError `entry-refused` when it convicts nobody.
   */
  async reportEquivocation(body: unknown): Promise<readonly string[]> {
    const read = readEquivocation(body);
    if (!read.ok) throw new AppError('entry-refused', { detail: read.reason });
    const { a, b } = read.value;
    const signersOf = (one: typeof a, crypto: Crypto) =>
      one.signatures.flatMap((signature) => {
        const spki = this.#keyBook.keyAt(signature.kid, Number.MAX_SAFE_INTEGER);
        return spki !== undefined && verifySignature(crypto, signature, spki) ? [didOfKid(signature.kid)] : [];
      });
    const inA = await this.#options.verifyInPool((crypto) => signersOf(a, crypto));
    const inB = await this.#options.verifyInPool((crypto) => signersOf(b, crypto));
    const parties: readonly string[] = [a.value.provider, a.value.consumer];
    const convicted = [...new Set(inA)].filter((did) => inB.includes(did) && parties.includes(did));
    if (convicted.length === 0) throw new AppError('entry-refused', { detail: 'it convicts nobody' });
    await this.#keepEquivocation({ type: 'equivocation-proof', a: a.jws, b: b.jws }, convicted);
    return convicted;
  }

  /** `A` of a public entry by hex `H(A)`, or undefined. */
  publicArtifact(digest: string): Promise<string | undefined> {
    return this.#options.artifacts.publicText(this.#options.origin, digest);
  }

  /** A tile or bundle by its path; undefined when there is none. */
  file(path: string): Promise<Uint8Array | undefined> {
    return this.#options.files.read(path);
  }

  /** A one-time code with which this DID may join, and no other; shown once, only its hash is kept. */
  async issueJoinCode(did: string, validMs: number): Promise<string> {
    const { random, crypto, clock, joinCodes, origin } = this.#options;
    const code = toHex(random.bytes(joinCodeBytes)); // an argument of a command: never a leading dash
    await joinCodes.add(origin, joinCodeHash(crypto, did, code), clock.now() + validMs);
    return code;
  }

  /** Erases the artifacts of an agreement; the log and all other proofs still verify (ledger §15). */
  async erase(agreementDigest: string): Promise<number> {
    const { artifacts, origin, log } = this.#options;
    const count = await artifacts.erase(origin, agreementDigest);
    log.info({ origin, agreementDigest, count }, 'artifacts were erased on request');
    return count;
  }

  /** The operator gives a DID new keys, in everybody's sight: all others of it end (ledger §4 `recover`). */
  async recover(request: Pick<KeyEvent, 'did' | 'keys' | 'document'>): Promise<Registered> {
    const { origin, keys, clock } = this.#options;
    const { events } = this.#keyBook.historyOf(request.did);
    const last = events.at(-1);
    if (last === undefined) throw new AppError('not-found', { detail: 'this DID never joined' });
    const event: KeyEvent = {
      v: 1,
      type: 'key-event',
      did: request.did,
      event: 'recover',
      seq: String(events.length + 1),
      prev: last.hash,
      document: request.document,
      keys: request.keys,
      at: formatTime(clock.now()),
    };
    const payload = publicText(event);
    const header = encodeProtected(registryKid(origin), 'stekker-key-event+jws', 'ES256');
    const signature = await keys.signAsRegistry(signingInput(header, payload), 'jws');
    return await this.#registerPublic(jwsText(assembleJws(payload, [{ protected: header, signature }])));
  }

  /** Logs the key events whose 24 hours are over; at once for tests and operators, otherwise every minute. */
  async publishDueEffects(): Promise<void> {
    const { clock } = this.#options;
    for (const { hash } of dueEffects(this.#keyBook.pending(), clock.now())) {
      const at = formatTime(clock.now());
      await this.#registerPublic(publicText({ v: 1, type: 'key-effective', event: hash, at }));
    }
  }

  /** Compares every served file with the rows (ledger §17); `repair` writes again what differs. */
  audit(options: { readonly repair: boolean }): Promise<AuditReport> {
    return auditFiles(this.#options, this.#publisher.published, options);
  }

  /** Answers everything that waits, publishes the last checkpoint, and ends. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#effects;
    await this.#sequencer.close();
    await this.#publisher.close();
  }

  async #makeGenesis(): Promise<void> {
    const { origin, keys, clock } = this.#options;
    const { vkey, registryKey } = keys;
    const text = publicText({
      v: 1,
      type: 'genesis',
      origin,
      registryKey: toBase64(registryKey),
      logKey: vkey,
      policy: policyOf(this.#options),
      previous: null,
      at: formatTime(clock.now()),
    });
    await this.#registerPublic(text);
  }

  /** The keys in the data folder must be those that this log was founded with. */
  async #checkGenesis(): Promise<void> {
    const { origin, store, keys } = this.#options;
    const [first] = await store.publicRows(origin);
    const genesis = first && readPublicText(first.text);
    const said = genesis?.ok && genesis.value.kind === 'genesis' ? genesis.value.value : undefined;
    if (said?.origin !== origin || said.logKey !== keys.vkey || said.registryKey !== toBase64(keys.registryKey))
      throw new AppError('data-damaged', { detail: 'the keys are not those of the genesis of this log' });
  }

  async #registerPublic(text: string): Promise<Registered> {
    const artifact = readPublicText(text);
    if (!artifact.ok) throw new AppError('entry-refused', { detail: artifact.reason });
    const candidate = await publicCandidate(this.#admission, text, artifact.value);
    return await this.#answer(candidate, await this.#sequencer.submit(candidate));
  }

  async #answer(candidate: Candidate, outcome: Outcome): Promise<Registered> {
    switch (outcome.kind) {
      case 'registered':
        return { index: outcome.entry.index, promise: await this.#promise(outcome.entry), duplicateOf: null };
      case 'duplicate':
        return {
          index: outcome.entry.index,
          promise: await this.#promise(outcome.entry),
          duplicateOf: await this.#artifactText(outcome.entry.index),
        };
      case 'refused':
        throw new AppError(outcome.code, { detail: outcome.reason });
      case 'equivocation':
        return await this.#convict(candidate, outcome.index);
    }
  }

  /** Both signed this number before, with other content: the two together are the proof (ledger §8). */
  async #convict(candidate: Candidate, index: number): Promise<never> {
    const registered = await this.#artifactAt(index);
    const a = registered === undefined ? undefined : readJws(registered, 'stekker-usage-statement+jws');
    if (a?.ok && candidate.jws !== undefined) {
      const kids = a.value.signatures.map(({ kid }) => kid).filter((kid) => !this.#keyBook.isCompromised(kid));
      const again = new Set(candidate.keys.map(({ kid }) => didOfKid(kid)));
      const against = kids.map(didOfKid).filter((did) => again.has(did));
      const proof = { type: 'equivocation-proof' as const, a: registered as GeneralJws, b: candidate.jws };
      await this.#keepEquivocation(proof, against);
    }
    throw new AppError('statement-conflict', { detail: `entry ${index} is another statement for this number` });
  }

  async #keepEquivocation(proof: EquivocationProof, against: readonly string[]): Promise<void> {
    const { artifacts, origin, log } = this.#options;
    const read = readEquivocation(proof);
    if (!read.ok) throw new AppError('invariant-broken', { detail: `a proof of double signing ${read.reason}` });
    const { agreementDigest, seq } = read.value.a.value;
    for (const did of against) {
      await artifacts.keepEquivocation(origin, { agreementDigest, seq, against: did, proof });
      log.error({ origin, agreementDigest, seq, against: did }, 'a party signed two statements for one number');
    }
  }

  async #promise({ index, leaf, at }: EntryRow): Promise<GeneralJws> {
    const { origin, keys } = this.#options;
    const payload = promiseText({
      v: 1,
      type: 'log-promise',
      origin,
      index: String(index),
      leafHash: leaf,
      at: formatTime(at),
    });
    const header = encodeProtected(promiseKid(this.#key), 'stekker-log-promise+jws');
    return assembleJws(payload, [
      { protected: header, signature: await keys.signAsLog(signingInput(header, payload)) },
    ]);
  }

  async #artifactText(index: number): Promise<string | undefined> {
    const row = await this.#options.artifacts.byIndex(this.#options.origin, index);
    if (row === undefined) return undefined;
    const text = row.agreementDigest === null ? row.text : this.#options.seal.open(row.text, row.digest);
    const isWhole = text !== undefined && toHex(this.#options.crypto.sha256(utf8(text))) === row.digest;
    if (!isWhole)
      throw new AppError('data-damaged', { detail: `the artifact of entry ${index} is not the one registered` });
    return text;
  }

  async #artifactAt(index: number): Promise<unknown> {
    const text = await this.#artifactText(index);
    return text === undefined ? undefined : JSON.parse(text);
  }

  async #watchEffects(): Promise<void> {
    const { clock, log, origin } = this.#options;
    while (!this.#closing.signal.aborted) {
      await this.publishDueEffects().catch((err: unknown) =>
        log.error({ origin, err }, 'a key event was not made effective'),
      );
      await clock.sleep(effectCheckMs, this.#closing.signal);
    }
  }
}
