import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Arrival, Desk } from './desk.ts';
import { type Body, type FormName, formFault } from './forms.ts';
import { type Answer, type Caller, CaseFailure, type Reply, readJson } from './http.ts';
import {
  contentFault,
  type Kind,
  kinds,
  type Protocol,
  type Role,
  type Subject,
  surfaces,
  writeError,
  writeMessage,
  writeOpening,
} from './messages.ts';
import type { KitSettings } from './settings.ts';

/** One process of a case: what the kit says, what it waits for, and what must not happen. */

export interface World {
  readonly settings: KitSettings;
  readonly caller: Caller;
  readonly desk: Desk;
}

export interface Played {
  /** The kit begins as consumer. */
  readonly request: () => Promise<void>;
  /** The connector is told to begin, and its request is taken. */
  readonly trigger: () => Promise<void>;
  /** A message that must be accepted, and lead to its state. */
  readonly send: (kind: Kind) => Promise<void>;
  /** A message that must be refused, and change nothing. */
  readonly tryIn: (kind: Kind) => Promise<void>;
  /** The next message of the connector, which must be this one, and lead to its state. */
  readonly take: (kind: Kind) => Promise<void>;
  /** For a while nothing may come, and the state stays. */
  readonly quiet: () => Promise<void>;
  /** Messages that come later are refused. */
  readonly end: () => void;
}

const pollMs = 20;
const longestPollMs = 200;

/** A message that waits for the case to want it: the connector's state does not move before the kit has answered. */
interface Waiting extends Arrival {
  readonly answer: (reply: Reply) => void;
}

const fail = (reason: string): never => {
  throw new CaseFailure(reason);
};

/** The JSON of an answer in this form. */
const readForm = (
  answer: Answer,
  form: FormName,
  its: { readonly of: string; readonly contexts: readonly string[] },
): Body => {
  const read = readJson(answer);
  const fault = 'fault' in read ? read.fault : formFault(form, read.json, its.contexts);
  if (fault !== undefined || 'fault' in read)
    return fail(`${its.of} is not a ${form}: ${fault} (${answer.text.slice(0, 400)})`);
  return read.json;
};

export const checkAnswer = (
  { settings }: Pick<World, 'settings'>,
  answer: Answer,
  expected: { readonly of: string; readonly status: number; readonly form: FormName },
): Body => {
  const { of, status, form } = expected;
  if (answer.status !== status)
    fail(`${of} was answered ${answer.status} and not ${status}: ${answer.text.slice(0, 400)}`);
  return readForm(answer, form, { of: `the answer to ${of}`, contexts: settings.contexts });
};

/** Messages that came and wait, in their order. */
const createInbox = (waitMs: number) => {
  const waiting: Waiting[] = [];
  let came = Promise.withResolvers<void>();
  let isClosed = false;
  return {
    peek: () => waiting[0],
    put: (arrival: Arrival): Promise<Reply> => {
      const { promise, resolve } = Promise.withResolvers<Reply>();
      if (isClosed) resolve({ status: 400 });
      else waiting.push({ ...arrival, answer: resolve });
      came.resolve();
      return promise;
    },
    next: async (): Promise<Waiting | undefined> => {
      const until = performance.now() + waitMs;
      while (waiting.length === 0 && performance.now() < until) {
        came = Promise.withResolvers<void>();
        const stopped = new AbortController();
        const late = sleep(until - performance.now(), undefined, { signal: stopped.signal }).catch(() => undefined);
        await Promise.race([came.promise, late]);
        stopped.abort();
      }
      return waiting.shift();
    },
    close: () => {
      isClosed = true;
      for (const { answer } of waiting.splice(0)) answer({ status: 400 });
    },
  };
};

interface Place {
  readonly protocol: Protocol;
  /** Of the kit. */
  readonly role: Role;
  readonly subject: Subject;
}

/** Makes a process for a case; nothing is said yet. */
export const createProcess = (world: World, { protocol, role, subject }: Place): Played => {
  const { settings, caller, desk } = world;
  const { agentId, callbackAddress, contexts, waitMs, quietMs } = settings;
  const own = `urn:uuid:${randomUUID()}`;
  const inbox = createInbox(waitMs);
  const undo: (() => void)[] = [];
  const surface = surfaces[protocol];
  let peer = '';
  let peerBase = role === 'consumer' ? settings.url : '';
  let state = 'INITIAL';

  const pids = (): { readonly providerPid: string; readonly consumerPid: string } =>
    role === 'provider' ? { providerPid: own, consumerPid: peer } : { providerPid: peer, consumerPid: own };
  const show = (): Body => writeState(state);
  const writeState = (of: string): Body => {
    const { code: _code, reason: _reason, ...rest } = writeError(surface.process, pids(), '');
    return { ...rest, state: of };
  };
  const kindOf = (kind: Kind) => kinds[protocol][kind] ?? fail(`there is no ${kind} in ${protocol}`);
  const processUrl = (): string => `${peerBase}/${protocol}/${encodeURIComponent(peer)}`;

  const pidFault = (body: Body): string | undefined => {
    const { providerPid, consumerPid } = pids();
    if (body.providerPid !== providerPid)
      return `its providerPid is ${String(body.providerPid)} and not ${providerPid}`;
    return body.consumerPid === consumerPid
      ? undefined
      : `its consumerPid is ${String(body.consumerPid)} and not ${consumerPid}`;
  };

  /** Asks the connector in what state it is; one that has not read our first answer yet may know of no process. */
  const look = async (before: string): Promise<string> => {
    const answer = await caller.get(processUrl());
    if (before === 'INITIAL' && answer.status === 404) return before;
    const body = checkAnswer(world, answer, { of: `GET ${protocol}`, status: 200, form: surface.process });
    const fault = pidFault(body);
    if (fault !== undefined) fail(`the ${surface.process} is of another process: ${fault}`);
    return String(body.state);
  };

  /** Who writes a state down before we answered is seen in the one that its waiting message leads to. */
  const announced = (): string | undefined => {
    const waiting = inbox.peek();
    return waiting === undefined ? undefined : kinds[protocol][waiting.kind]?.state;
  };

  /** Waits until the connector shows a state; none but this one and the one before may be seen. */
  const sees = async (expected: string, before: string): Promise<void> => {
    const until = performance.now() + waitMs;
    for (let pauseMs = pollMs; ; pauseMs = Math.min(pauseMs * 2, longestPollMs)) {
      const shown = await look(before);
      if (shown === expected || shown === announced()) break;
      if (shown !== before) fail(`the connector is ${shown} and not ${expected}`);
      if (performance.now() > until) fail(`the connector is still ${shown} and not ${expected}`);
      await sleep(pauseMs);
    }
    state = expected;
  };

  const arrivalFault = ({ kind, body, fault }: Arrival): string | undefined =>
    fault ??
    formFault(kindOf(kind).form, body, contexts) ??
    pidFault(body) ??
    contentFault(kind, body, { subject, agentId, isFirstStart: role === 'consumer' && state === 'REQUESTED' });

  const enter = (): void => {
    undo.push(desk.enter(protocol, own, { role, take: inbox.put, show }));
  };

  const take = async (kind: Kind): Promise<void> => {
    const arrival = await inbox.next();
    if (arrival === undefined) return fail(`no ${kind} came within ${waitMs} ms`);
    const reason = arrival.kind === kind ? arrivalFault(arrival) : `it is ${arrival.kind}`;
    if (reason !== undefined) {
      arrival.answer({ status: 400, body: writeError(surface.error, pids(), reason) });
      fail(`${kind} was expected, and what came is refused: ${reason}`);
    }
    const before = state;
    state = kindOf(kind).state;
    arrival.answer({ status: 200 });
    await sees(state, before);
  };

  const post = (kind: Kind): Promise<Answer> =>
    caller.post(
      `${processUrl()}${kindOf(kind).path}`,
      writeMessage(protocol, kind, { pids: pids(), subject, agentId }),
    );

  const request = async (): Promise<void> => {
    enter();
    const opening = writeOpening(protocol, { consumerPid: own, callbackAddress, subject });
    const answer = await caller.post(`${settings.url}/${protocol}/request`, opening);
    const body = checkAnswer(world, answer, { of: 'the request', status: 201, form: surface.process });
    peer = String(body.providerPid);
    const fault = pidFault(body) ?? (body.state === 'REQUESTED' ? undefined : `its state is ${String(body.state)}`);
    if (fault !== undefined) fail(`the answer to the request is wrong: ${fault}`);
    await sees('REQUESTED', 'REQUESTED');
  };

  /** The connector's first message: it opens this process, and is answered like every other creation. */
  const open = async ({ body, fault }: Omit<Arrival, 'kind'>): Promise<Reply> => {
    const reason =
      fault ??
      formFault(surface.opening, body, contexts) ??
      (protocol === 'transfers'
        ? formatFault(body)
        : contentFault('request', body, { subject, agentId, isFirstStart: false }));
    if (reason !== undefined) {
      opened.reject(new CaseFailure(`the connector's request is refused: ${reason}`));
      return { status: 400, body: writeError(surface.error, { providerPid: own, consumerPid: 'unknown' }, reason) };
    }
    if (peer !== '' && peer !== body.consumerPid)
      extra = `the connector opened a second process: ${String(body.consumerPid)}`;
    peer = String(body.consumerPid);
    peerBase = String(body.callbackAddress).replace(/\/+$/, '');
    state = 'REQUESTED';
    opened.resolve();
    return { status: 201, body: writeState('REQUESTED') };
  };
  const opened = Promise.withResolvers<void>();
  opened.promise.catch(() => undefined);
  let extra: string | undefined;
  const formatFault = (body: Body): string | undefined =>
    body.format === subject.format ? undefined : `its format is ${String(body.format)} and not ${subject.format}`;

  const trigger = async (): Promise<void> => {
    enter();
    const [about, url] =
      protocol === 'negotiations'
        ? [subject.dataset, settings.negotiationTrigger]
        : [subject.agreement, settings.transferTrigger];
    undo.push(desk.expect(protocol, about, open));
    const what =
      protocol === 'negotiations'
        ? { datasetId: subject.dataset, offerId: subject.offer }
        : { agreementId: subject.agreement, format: subject.format };
    const answer = await caller.post(url, {
      providerId: 'TCK_PARTICIPANT',
      connectorAddress: callbackAddress,
      ...what,
    });
    if (answer.status < 200 || answer.status > 299)
      fail(`the trigger answered ${answer.status}: ${answer.text.slice(0, 400)}`);
    const late = new AbortController();
    await Promise.race([opened.promise, sleep(waitMs, undefined, { signal: late.signal })]).finally(() => late.abort());
    if (peer === '') fail(`no request came within ${waitMs} ms`);
    await sees('REQUESTED', 'INITIAL');
  };

  const send = async (kind: Kind): Promise<void> => {
    const before = state;
    const answer = await post(kind);
    if (answer.status !== 200) fail(`${kind} was answered ${answer.status} and not 200: ${answer.text.slice(0, 400)}`);
    await sees(kindOf(kind).state, before);
  };

  const tryIn = async (kind: Kind): Promise<void> => {
    const answer = await post(kind);
    const { status } = answer;
    if (status < 400 || status > 499 || status === 404)
      fail(`${kind} in ${state} was answered ${status}, which is no refusal: ${answer.text.slice(0, 400)}`);
    const body = readForm(answer, surface.error, { of: `the refusal of ${kind}`, contexts });
    const fault = pidFault(body);
    if (fault !== undefined) fail(`the refusal of ${kind} is about another process: ${fault}`);
    await sees(state, state);
  };

  const quiet = async (): Promise<void> => {
    await sleep(quietMs);
    const waiting = inbox.peek();
    if (waiting !== undefined) fail(`nothing was expected in ${state}, and ${waiting.kind} came`);
    if (extra !== undefined) fail(extra);
    await sees(state, state);
  };

  const end = (): void => {
    for (const leave of undo.splice(0)) leave();
    inbox.close();
  };

  return { request, trigger, send, tryIn, take, quiet, end };
};
