import type { Process, Role } from '../../contracts/dsp/process.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';

/** How the messages of a process are kept, received and sent; negotiation and transfer share it. */

/** One process of a participant, as it is kept. `data` is what its protocol adds. */
export interface ProcessRow<State extends string, Kind extends string, Data> {
  readonly participant: ParticipantId;
  /** Our own pid. */
  readonly pid: string;
  readonly peer: Did;
  readonly peerPid: string | null;
  /** Where the peer takes messages: its `<base>` or `callbackAddress`, without trailing slash. */
  readonly peerBase: string;
  readonly process: Process<State, Kind>;
  /** Path and body of the pending message, as they are sent on each try. */
  readonly outgoing: { readonly path: string; readonly body: Json } | null;
  /** Ids of the peer up to this one are settled: a late one among them is refused. */
  readonly settledPeer: string;
  /** W3C trace id, 32 hex digits: all messages of a process are of one trace, on both sides. */
  readonly trace: string;
  readonly data: Data;
  readonly createdAt: number;
  readonly updatedAt: number;
  /** Grows by one with each change; 1 for a new row. */
  readonly version: number;
}

/** The answer that an accepted message got, for its repeats (dsp §12.1). */
export interface ReceivedMessage {
  readonly peer: Did;
  readonly id: string;
  readonly bodyHash: string;
  readonly status: number;
  readonly answer: Json;
  /** The newest message id of ours when it was accepted. */
  readonly newest: string;
}

/** An authentication token that must count only once: kept until it has expired. */
export interface UsedToken {
  readonly issuer: string;
  readonly jti: string;
  readonly expiresAt: number;
}

/** Everything that one step changes; saved together or not at all. */
export interface ProcessChange<State extends string, Kind extends string, Data> {
  readonly row: ProcessRow<State, Kind, Data>;
  /** Other names this process is found by; each is unique for the participant. */
  readonly names?: Readonly<Record<string, string>>;
  /** What this process belongs to, together with others: a transfer to its agreement. */
  readonly groups?: Readonly<Record<string, string>>;
  readonly received?: ReceivedMessage;
  readonly token?: UsedToken;
  /** Send the pending message. */
  readonly send: boolean;
  /** Let the owner's side look at the new state. */
  readonly work: boolean;
  /** Further work of its own kind, due at its own time. */
  readonly tasks?: readonly LaterTask[];
}

/** Work for the outbox beside sending and looking; one that is there already stays as it is. */
export interface LaterTask {
  readonly topic: string;
  /** Unique in its topic. */
  readonly id: string;
  /** ms */
  readonly dueAt: number;
}

/** `under-way`: saved, and the work that the change asks for has begun already, so that nobody need be woken. */
export type SaveResult = 'saved' | 'under-way' | 'conflict' | 'name-taken' | 'token-used';

/** Where a page begins and how long it may be. */
export interface Page {
  readonly after?: string;
  readonly limit: number;
}

/** Durable when `save` returns; atomic; a change with an old version is a `conflict` and changes nothing. */
export interface ProcessStore<State extends string, Kind extends string, Data> {
  readonly find: (participant: ParticipantId, pid: string) => Promise<ProcessRow<State, Kind, Data> | undefined>;
  readonly findByName: (
    participant: ParticipantId,
    name: string,
    value: string,
  ) => Promise<ProcessRow<State, Kind, Data> | undefined>;
  /** In order of pid, at most `limit`, behind `after`. */
  readonly list: (participant: ParticipantId, page: Page) => Promise<readonly ProcessRow<State, Kind, Data>[]>;
  /** The processes of a group, in the same order. */
  readonly listGroup: (
    participant: ParticipantId,
    group: { readonly name: string; readonly value: string },
    page: Page,
  ) => Promise<readonly ProcessRow<State, Kind, Data>[]>;
  readonly findReceived: (participant: ParticipantId, peer: Did, id: string) => Promise<ReceivedMessage | undefined>;
  readonly save: (change: ProcessChange<State, Kind, Data>) => Promise<SaveResult>;
}

/** Who sent a message, as its token proved. */
export interface Caller {
  readonly did: Did;
  /** Used up in the transaction of what the message does; absent where the token is used up already. */
  readonly token?: UsedToken;
  /** Uses it up at once, for a message that changes nothing; false when it was used before. */
  readonly claim?: () => Promise<boolean>;
  /** The trace of the request, where it named one. */
  readonly trace?: string;
}

export interface PeerAnswer {
  readonly status: number;
  readonly body: Json | undefined;
  /** `Stekker-Newest` of the answer, or empty. */
  readonly newest: string;
  /** `Link` of the answer, where there is one: catalogs page with it (dsp §4). */
  readonly link?: string;
}

/** Sends one message to a peer, with our proof of who we are. Throws AppError when no answer came. */
export interface PeerTransport {
  readonly post: (message: {
    readonly participant: ParticipantId;
    readonly peer: Did;
    readonly url: string;
    readonly id: string;
    readonly body: Json;
    /** Sent as NDJSON: the body is the first line, these are the others. */
    readonly lines?: readonly Json[];
    readonly trace?: string;
  }) => Promise<PeerAnswer>;
  readonly get: (request: {
    readonly participant: ParticipantId;
    readonly peer: Did;
    readonly url: string;
    readonly trace?: string;
  }) => Promise<PeerAnswer>;
}

/** One change that an operator may watch. */
export interface ProcessEventNotice {
  readonly protocol: string;
  readonly participant: ParticipantId;
  readonly pid: string;
  readonly role: Role;
  readonly peer: Did;
  readonly state: string;
  readonly at: number;
}
