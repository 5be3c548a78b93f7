import type { Body } from './forms.ts';
import { type Answer, type Incoming, type Reply, readJson } from './http.ts';
import { type Kind, kinds, type Protocol, type Role, surfaces, writeError } from './messages.ts';

/** Where the connector's messages come in: each is brought to the process that it names, and to nobody else. */

/** A message that names a process of the kit. */
export interface Arrival {
  /** What the path says; an event says more. */
  readonly kind: Kind;
  readonly body: Body;
  readonly fault: string | undefined;
}

/** A process of the kit that takes messages. */
export interface Receiver {
  readonly role: Role;
  readonly take: (arrival: Arrival) => Promise<Reply>;
  /** As it is shown to the connector. */
  readonly show: () => Body;
}

/** Takes the first message of a process that the connector opens. */
export type Opener = (arrival: Omit<Arrival, 'kind'>) => Promise<Reply>;

export interface Desk {
  readonly onMessage: (incoming: Incoming) => Promise<Reply>;
  /** From now on messages to this pid are its own; undoing it leaves a process that has ended. */
  readonly enter: (protocol: Protocol, pid: string, receiver: Receiver) => () => void;
  /** Waits for the first message about this dataset or agreement. */
  readonly expect: (protocol: Protocol, subject: string, opener: Opener) => () => void;
}

/** What was read: its JSON, or an empty object and why. */
const read = (incoming: Pick<Answer, 'type' | 'text'>): { readonly body: Body; readonly fault: string | undefined } => {
  const found = readJson(incoming);
  return 'json' in found ? { body: found.json, fault: undefined } : { body: {}, fault: found.fault };
};

const subjectOf = (protocol: Protocol, body: Body): string => {
  const { target } = (body.offer ?? {}) as Body;
  return String(protocol === 'negotiations' ? target : body.agreementId);
};

/** Which message a path brings to a kit of this role; an event is what it says it is. */
const kindAt = (protocol: Protocol, role: Role, path: string, body: Body): Kind | undefined => {
  const all = Object.entries(kinds[protocol]) as [Kind, NonNullable<(typeof kinds)[Protocol][Kind]>][];
  const fitting = all.filter(([, kind]) => kind.path === path && kind.by !== role).map(([kind]) => kind);
  const [only] = fitting;
  if (path !== '/events' || only === undefined) return only;
  return body.eventType === 'ACCEPTED' ? 'accepted' : body.eventType === 'FINALIZED' ? 'finalized' : only;
};

export const createDesk = (): Desk => {
  const receivers = new Map<string, Receiver | 'ended'>();
  const openers = new Map<string, Opener>();

  const refuse = (protocol: Protocol, pid: string, status: number, reason: string): Reply => ({
    status,
    body: writeError(surfaces[protocol].error, { providerPid: pid, consumerPid: pid }, reason),
  });

  const onOpening = async (protocol: Protocol, incoming: Incoming): Promise<Reply> => {
    const { body, fault } = read(incoming);
    const opener = openers.get(`${protocol} ${subjectOf(protocol, body)}`);
    return opener?.({ body, fault }) ?? refuse(protocol, 'none', 404, 'no case waits for this');
  };

  const onMessage = async (incoming: Incoming): Promise<Reply> => {
    const { method, path } = incoming;
    const [, name = '', id = '', rest = ''] = /^\/(negotiations|transfers)\/([^/?]+)(\/[^?]*)?/.exec(path) ?? [];
    if (name !== 'negotiations' && name !== 'transfers') return { status: 404 };
    const pid = decodeURIComponent(id);
    if (method === 'POST' && pid === 'request' && rest === '') return onOpening(name, incoming);
    const receiver = receivers.get(`${name} ${pid}`);
    if (receiver === undefined) return refuse(name, pid, 404, 'there is no such process');
    if (receiver === 'ended') return refuse(name, pid, 400, 'the case is over');
    if (method === 'GET' && rest === '') return { status: 200, body: receiver.show() };
    const { body, fault } = read(incoming);
    const kind = method === 'POST' ? kindAt(name, receiver.role, rest, body) : undefined;
    if (kind === undefined) return refuse(name, pid, 404, 'this path is not served');
    return receiver.take({ kind, body, fault });
  };

  return {
    onMessage,
    enter: (protocol, pid, receiver) => {
      receivers.set(`${protocol} ${pid}`, receiver);
      return () => receivers.set(`${protocol} ${pid}`, 'ended');
    },
    expect: (protocol, subject, opener) => {
      const key = `${protocol} ${subject}`;
      openers.set(key, opener);
      return () => openers.delete(key);
    },
  };
};
