import { fromBase64Url, orNothing, toBase64, toBase64Url, toHex, utf8 } from '../../contracts/bytes.ts';
import type { Crypto } from '../../contracts/crypto.ts';
import { AppError, isAppError } from '../../contracts/errors.ts';
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
import { createIds, type Random } from '../../kernel/random.ts';
import type { VerifyInPool } from '../../kernel/verify-pool.ts';
import { type AdmissionTools, admit, type Candidate, joinCodeHash, publicCandidate } from './admission.ts';
import { type AuditReport, auditFiles } from './audit.ts';
import { Handover } from './handover.ts';
import { createKeyBook, readPublicText } from './key-book.pure.ts';
import { Office, type OfficeTools } from './office.ts';
import type {
  ArtifactSeal,
  ArtifactStore,
  EntryRow,
  FetchDidDocument,
  JoinCodeStore,
  Origin,
  Published,
  Registered,
} from './ports.ts';
import { createReplica, type Replica } from './replica.ts';
import { dueEffects } from './rules.ts';
import { defaultSequencerLimits, type Outcome } from './sequencer.ts';
import { Term, type WritingTools } from './term.ts';

/** The log as one service: registration, promises, proofs, what is public, and what only parties may read (ledger §9). */

export interface LedgerOptions extends WritingTools {
  readonly artifacts: ArtifactStore;
  readonly joinCodes: JoinCodeStore;
  readonly seal: ArtifactSeal;
  readonly fetchDidDocument: FetchDidDocument;
  readonly verifyInPool: VerifyInPool;
  readonly random: Random;
  /** Whose signatures a reader should ask for; `quorum none` as long as there are no witnesses. */
  readonly policy?: string;
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
/** Longer than a lease: a writer that died is followed in this time. */
const handoverPatienceMs = 20_000;

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
  readonly #replica: Replica;
  readonly #admission: AdmissionTools;
  readonly #handover: Handover | undefined;
  readonly #closing = new AbortController();
  #office: Office | undefined;
  #term: Term | undefined;
  #effects: Promise<void> = Promise.resolve();
  readonly #admitting = new Map<string, number>();
  #admittingOfAll = 0;

  private constructor(options: LedgerOptions) {
    const { origin, store, crypto, keys, clock, random, processes } = options;
    this.#options = options;
    this.#key = readKey(options);
    const keyBook = createKeyBook(crypto, { origin, registryKey: keys.registryKey });
    this.#replica = createReplica(store, origin, keyBook);
    this.#admission = { ...options, keyBook: this.#replica.keyBook, publicEntry: registryEntry(options) };
    this.#handover =
      processes &&
      new Handover({ ...options, ...processes, newId: createIds(clock, random), patienceMs: handoverPatienceMs });
  }

  /**
   * Begins to work. Alone with its log, or the first of several processes, it checks everything of ledger §12 "start-up
   * checks" and makes the genesis of a new log; otherwise it reads what another process writes, until it is its turn.
   *
   * @throws AppError `backup-restored`, `data-damaged`, `config-invalid`.
   */
  static async start(options: LedgerOptions): Promise<Ledger> {
    const ledger = new Ledger(options);
    ledger.#office = await Office.open({
      ...options,
      replica: ledger.#replica,
      begin: (its) => ledger.#begin(its),
      check: () => ledger.#checkGenesis(),
    });
    ledger.#effects = ledger.#watchEffects();
    return ledger;
  }

  /** Begins to write: what only the writer does starts with it. */
  async #begin({ enter, ...its }: Parameters<OfficeTools['begin']>[0]): Promise<void> {
    const term = await Term.begin(this.#options, { ...its, key: this.#key, replica: this.#replica });
    enter(term);
    this.#term = term; // in the first start the office is not there yet
    if (term.head.size === 0) await this.#makeGenesis();
    else await this.#checkGenesis();
    if (term.published !== undefined) this.#options.feed(term.published.note);
    term.wake();
  }

  /** The term that runs, when this process writes now. */
  get #writing(): Term | undefined {
    return this.#office === undefined ? this.#term : this.#office.term;
  }

  /** Work of the writer alone: begun with its turn to write and ended with it, or when the answer is disposed. */
  whileWriting(begin: () => Promise<AsyncDisposable>): Promise<AsyncDisposable> {
    if (this.#office === undefined) throw new AppError('invariant-broken', { detail: 'the log has not begun' });
    return this.#office.whileWriting(begin);
  }

  get origin(): Origin {
    return this.#options.origin;
  }

  /** How many entries there are; as of the last look, where another process writes. */
  get size(): number {
    return this.#writing?.head.size ?? this.#replica.head()?.size ?? 0;
  }

  /** Whether this process writes now. */
  get isWriter(): boolean {
    return this.#writing !== undefined;
  }

  /** False once this log takes nothing more here until a new start has checked the rows. */
  get isWorking(): boolean {
    return this.#office?.stopped === undefined && this.#writing?.isWorking !== false;
  }

  /** Whether this DID has introduced its keys. */
  async hasJoined(did: string): Promise<boolean> {
    const isKnown = () => this.#replica.keyBook.historyOf(did).events.length > 0;
    if (!isKnown()) await this.#look();
    return isKnown();
  }

  /** The newest checkpoint that was published, as far as this process knows; undefined before the first. */
  get checkpoint(): string | undefined {
    return this.#published?.note;
  }

  /** The newest checkpoint that was published, whoever did. */
  async newestCheckpoint(): Promise<string | undefined> {
    await this.#look();
    return this.checkpoint;
  }

  get #published(): Published | undefined {
    return this.#writing === undefined ? this.#replica.published() : this.#writing.published;
  }

  /** Looks what another process wrote, where this one does not write itself. */
  async #look(): Promise<void> {
    if (this.#writing === undefined) await this.#replica.refresh();
  }

  /**
   * Registers what a party sends (ledger §9); answers once the entry is durable.
   *
   * @throws AppError of the reason: `body-invalid`, `entry-refused`, `forbidden`, `statement-conflict`, `busy`, `log-stopped`.
   */
  async register(body: unknown, caller: string): Promise<Registered> {
    this.#enter(caller);
    try {
      await this.#look();
      const candidate = await admit(this.#admission, body, caller);
      return await this.#answer(candidate, await this.#submit(candidate));
    } finally {
      this.#leave(caller);
    }
  }

  /** To our own sequencer, or to that of the process which writes; when that changes meanwhile, once more. */
  async #submit(candidate: Candidate): Promise<Outcome> {
    const term = this.#writing;
    if (term !== undefined)
      try {
        return await term.submit(candidate);
      } catch (error) {
        if (!isAppError(error, 'log-moved')) throw error;
      }
    if (this.#handover === undefined) throw new AppError('log-stopped');
    return await this.#handover.submit(candidate);
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
    if (index >= (this.#published?.size ?? 0)) await this.#look();
    const published = this.#published;
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
        const spki = this.#replica.keyBook.keyAt(signature.kid, Number.MAX_SAFE_INTEGER);
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
    const { events } = this.#replica.keyBook.historyOf(request.did);
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
    if (!this.isWriter) return;
    for (const { hash } of dueEffects(this.#replica.keyBook.pending(), clock.now())) {
      const at = formatTime(clock.now());
      await this.#registerPublic(publicText({ v: 1, type: 'key-effective', event: hash, at }));
    }
  }

  /** Compares every served file with the rows (ledger §17); `repair` writes again what differs. */
  audit(options: { readonly repair: boolean }): Promise<AuditReport> {
    return auditFiles(this.#options, this.#published, options);
  }

  /** Answers everything that waits, publishes the last checkpoint, and ends. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#effects;
    await this.#handover?.close();
    await this.#office?.close();
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
    const [first] = await store.publicRows(origin, 0);
    const genesis = first && readPublicText(first.text);
    const said = genesis?.ok && genesis.value.kind === 'genesis' ? genesis.value.value : undefined;
    if (said?.origin !== origin || said.logKey !== keys.vkey || said.registryKey !== toBase64(keys.registryKey))
      throw new AppError('data-damaged', { detail: 'the keys are not those of the genesis of this log' });
  }

  async #registerPublic(text: string): Promise<Registered> {
    const artifact = readPublicText(text);
    if (!artifact.ok) throw new AppError('entry-refused', { detail: artifact.reason });
    const candidate = await publicCandidate(this.#admission, text, artifact.value);
    return await this.#answer(candidate, await this.#submit(candidate));
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
      const kids = a.value.signatures.map(({ kid }) => kid).filter((kid) => !this.#replica.keyBook.isCompromised(kid));
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
