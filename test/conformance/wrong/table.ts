import type { CaseName } from '../dsp/cases.ts';
import type { Body } from '../dsp/forms.ts';
import { type Kind, kinds, type Protocol, type Role, writeMessage } from '../dsp/messages.ts';
import type { Passing, Wrong } from './proxy.ts';

/** For each case what a connector may do wrong, and how the case says so. */

export interface Shown {
  /** Behind "fails when". */
  readonly what: string;
  readonly wrong: Wrong;
  readonly says: RegExp;
  /** A state that never comes is waited for to the end. */
  readonly neverSeen?: boolean;
}

const escaped = (text: string): string => text.replace(/[/.*+?^${}()|[\]\\]/g, '\\$&');

/** A first request has a path of its own; every other message goes to a process. */
const pathOf = (protocol: Protocol, kind: Kind | 'first'): RegExp =>
  kind === 'first'
    ? new RegExp(`^POST /${protocol}/request$`)
    : new RegExp(`^POST /${protocol}/(?!request$)[^/]+${escaped(kinds[protocol][kind]?.path ?? '')}$`);

type Edit = (body: Body) => Body;

const edit =
  (change: Edit) =>
  (passing: Passing): Passing => ({ ...passing, body: passing.body && change(passing.body) });
const without =
  (member: string): Edit =>
  ({ [member]: _gone, ...rest }) =>
    rest;
const withValue =
  (member: string, value: unknown): Edit =>
  (body) => ({ ...body, [member]: value });
/** Changes what stands inside a member. */
const inside =
  (member: string, change: Edit): Edit =>
  (body) => ({ ...body, [member]: change(body[member] as Body) });

const noContext = /@context/;
const message = (protocol: Protocol, kind: Kind | 'first', change: Edit, from = 1): Wrong => ({
  to: 'message',
  at: pathOf(protocol, kind),
  from,
  change: edit(change),
});
const lost = (protocol: Protocol, kind: Kind | 'first', from = 1): Wrong => ({
  to: 'message',
  at: pathOf(protocol, kind),
  from,
  isLost: true,
});
const doubled = (protocol: Protocol, kind: Kind, from = 1): Wrong => ({
  to: 'message',
  at: pathOf(protocol, kind),
  from,
  isDoubled: true,
});

const answered = (
  protocol: Protocol,
  kind: Kind | 'first',
  change: (passing: Passing) => Passing,
  from = 1,
): Wrong => ({
  to: 'answer',
  at: pathOf(protocol, kind),
  from,
  change,
});
const status =
  (code: number) =>
  (passing: Passing): Passing => ({ ...passing, status: code });
const silent200 = (): Passing => ({ status: 200, type: '', body: undefined });
const emptyError = ({ status: code }: Passing): Passing => ({ status: code, type: '', body: undefined });

/** Every look at a process. */
const looksAt = (protocol: Protocol): RegExp => new RegExp(`^GET /${protocol}/`);
const shown = (protocol: Protocol, change: Edit): Wrong => ({
  to: 'answer',
  at: looksAt(protocol),
  change: edit(change),
});
/** The process is in one state and shown in another, from the n-th look on. */
const shownAs = (protocol: Protocol, state: string, as: string, from = 1): Wrong => ({
  ...shown(protocol, withValue('state', as)),
  in: state,
  from,
});
const notServed = (protocol: Protocol): Wrong => ({
  to: 'answer',
  at: looksAt(protocol),
  change: () => ({ status: 404, type: 'text/plain', body: undefined }),
});

/** One more message than the connector sends, when it is first seen in a state. The role is the kit's. */
const extra = (protocol: Protocol, role: Role, kind: Kind, state: string): Wrong => ({
  to: 'answer',
  at: looksAt(protocol),
  in: state,
  adds: (pids) => {
    const subject = { dataset: 'any', offer: 'any', agreement: 'any', format: 'any' };
    const pid = role === 'provider' ? pids.providerPid : pids.consumerPid;
    return {
      path: `/${protocol}/${encodeURIComponent(pid)}${kinds[protocol][kind]?.path ?? ''}`,
      body: writeMessage(protocol, kind, { pids, subject, agentId: 'any' }),
    };
  },
});

const one = (what: string, wrong: Wrong, says: RegExp): Shown => ({ what, wrong, says });
const never = (what: string, wrong: Wrong, says: RegExp): Shown => ({ what, wrong, says, neverSeen: true });

/** The connector believes that it was heard: it waits, or goes on and is seen in a state that nothing led to. */
const lostMessage = (protocol: Protocol, kind: Kind, from = 1): Shown =>
  one(
    `its ${kind} never comes`,
    lost(protocol, kind, from),
    new RegExp(`^no ${kind} came within|^${kind} was expected, and|^the connector is `),
  );

/** Every way to be wrong about a message that must be refused. */
const refusals = (protocol: Protocol, kind: Kind, from = 1): readonly Shown[] => [
  one(
    `it answers ${kind} with 500`,
    answered(protocol, kind, status(500), from),
    /was answered 500, which is no refusal/,
  ),
  one(
    `it answers ${kind} with a silent 200`,
    answered(protocol, kind, silent200, from),
    /was answered 200, which is no refusal/,
  ),
];
const untyped = (protocol: Protocol, kind: Kind, from = 1): Shown =>
  one(`its refusal of ${kind} has no body`, answered(protocol, kind, emptyError, from), /the refusal of .* is not a/);
const notFound = (protocol: Protocol, kind: Kind): Shown =>
  one(`it does not know the process when ${kind} comes`, answered(protocol, kind, status(404)), /was answered 404/);

const get = (at: RegExp, change: (passing: Passing) => Passing): Wrong => ({ to: 'answer', at, change });
const versions = /^GET \/\.well-known\/dspace-version$/;
const catalog = /^POST \/catalog\/request$/;
const dataset = /^GET \/catalog\/datasets\//;
const firstVersion =
  (change: Edit): Edit =>
  (body) => ({
    ...body,
    protocolVersions: (body.protocolVersions as readonly Body[]).map(change),
  });

const cn = 'negotiations';
const tp = 'transfers';

export const wrongs: Readonly<Record<CaseName, readonly Shown[]>> = {
  'MET:01-01': [
    one('a version has no binding', get(versions, edit(firstVersion(without('binding')))), /binding/),
    one('a version has no path', get(versions, edit(firstVersion(without('path')))), /path/),
    one(
      'the version is another one',
      get(versions, edit(firstVersion(withValue('version', '2024-1')))),
      /no version is 2025-1/,
    ),
    one('the path leads elsewhere', get(versions, edit(firstVersion(withValue('path', '/other')))), /is said to be at/),
  ],
  'CAT:01-01': [
    one('the dataset is not in it', get(catalog, edit(without('dataset'))), /does not hold/),
    one('it lists no service', get(catalog, edit(withValue('service', []))), /service: is empty/),
    one('it is of somebody else', get(catalog, edit(withValue('participantId', 'x'))), /the catalog is of x/),
    one(
      'it is served as text',
      get(catalog, (its) => ({ ...its, type: 'text/plain' })),
      /media type/,
    ),
    one('its context is no list', get(catalog, edit(withValue('@context', 'x'))), noContext),
  ],
  'CAT:01-02': [
    one('it has no policy', get(dataset, edit(withValue('hasPolicy', []))), /hasPolicy: is empty/),
    one('it has no distribution', get(dataset, edit(without('distribution'))), /distribution/),
    one('it is another one', get(dataset, edit(withValue('@id', 'x'))), /the dataset is x/),
    one(
      'a policy has a target',
      get(dataset, edit(withValue('hasPolicy', [{ '@id': 'o', target: 'd', permission: [{ action: 'use' }] }]))),
      /has a target/,
    ),
  ],
  'CAT:01-03': [
    one('the error has no body', get(dataset, emptyError), /is not a CatalogError/),
    one(
      'the error is of another kind',
      get(dataset, edit(withValue('@type', 'ContractNegotiationError'))),
      /is not a CatalogError/,
    ),
    one('it answers 500', get(dataset, status(500)), /answered 500 and not 404/),
  ],

  'CN:01-01': [
    one('the offer has no @context', message(cn, 'offer', without('@context')), noContext),
    one('the request is answered 200', answered(cn, 'first', status(200)), /answered 200 and not 201/),
    one('the answer to the request has no state', answered(cn, 'first', edit(without('state'))), /state/),
  ],
  'CN:01-02': [
    lostMessage(cn, 'termination'),
    one('the counter-offer is refused', answered(cn, 'request', status(400)), /request was answered 400/),
  ],
  'CN:01-03': [
    one(
      'the agreement has no timestamp',
      message(cn, 'agreement', inside('agreement', without('timestamp'))),
      /timestamp/,
    ),
    one(
      'it says ACCEPTED for FINALIZED',
      message(cn, 'finalized', withValue('eventType', 'ACCEPTED')),
      /was expected|404/,
    ),
    lostMessage(cn, 'finalized'),
  ],
  'CN:01-04': [
    one(
      'the agreement is with somebody else',
      message(cn, 'agreement', inside('agreement', withValue('assignee', 'x'))),
      /its assignee is "x"/,
    ),
    one(
      'the agreement is by somebody else',
      message(cn, 'agreement', inside('agreement', withValue('assigner', 'x'))),
      /its assigner is "x"/,
    ),
  ],
  'CN:02-01': [
    one('the code is a number', message(cn, 'termination', withValue('code', 1)), /code/),
    never('it stays REQUESTED', shownAs(cn, 'TERMINATED', 'REQUESTED'), /still REQUESTED and not TERMINATED/),
  ],
  'CN:02-02': [
    one(
      'it makes an offer nonetheless',
      extra(cn, 'consumer', 'offer', 'REQUESTED'),
      /nothing was expected in REQUESTED, and offer came/,
    ),
    one('it refuses the termination', answered(cn, 'termination', status(400)), /termination was answered 400/),
  ],
  'CN:02-03': [
    one(
      'the agreement has an empty list of prohibitions',
      message(cn, 'agreement', inside('agreement', withValue('prohibition', []))),
      /prohibition: is empty/,
    ),
    one(
      'the agreement has other rules',
      message(cn, 'agreement', inside('agreement', withValue('permission', [{ action: 'read' }]))),
      /its rules are not those/,
    ),
  ],
  'CN:02-04': [
    one(
      'the offer is for another dataset',
      message(cn, 'offer', inside('offer', withValue('target', 'x'))),
      /its target is "x"/,
    ),
    one('the offer comes twice', doubled(cn, 'offer'), /nothing was expected in OFFERED, and offer came/),
  ],
  'CN:02-05': [
    lostMessage(cn, 'termination'),
    never('it is never OFFERED', shownAs(cn, 'OFFERED', 'REQUESTED'), /still REQUESTED and not OFFERED/),
  ],
  'CN:02-06': [
    one('it refuses ACCEPTED', answered(cn, 'accepted', status(409)), /accepted was answered 409/),
    one(
      'the termination names another process',
      message(cn, 'termination', withValue('providerPid', 'x')),
      /its providerPid is x/,
    ),
  ],
  'CN:02-07': [
    one('it fails at the verification', answered(cn, 'verification', status(500)), /verification was answered 500/),
    lostMessage(cn, 'termination'),
  ],
  'CN:03-01': [
    ...refusals(cn, 'termination'),
    one('it is TERMINATED afterwards', shownAs(cn, 'FINALIZED', 'TERMINATED', 2), /is TERMINATED and not FINALIZED/),
  ],
  'CN:03-02': [...refusals(cn, 'verification'), untyped(cn, 'verification'), notFound(cn, 'verification')],
  'CN:03-03': [
    ...refusals(cn, 'verification'),
    one(
      'it agrees nonetheless',
      extra(cn, 'consumer', 'agreement', 'ACCEPTED'),
      /nothing was expected in ACCEPTED, and agreement came/,
    ),
  ],
  'CN:03-04': [
    ...refusals(cn, 'request', 2),
    one(
      'its refusal names other pids',
      answered(cn, 'request', edit(withValue('consumerPid', 'x')), 2),
      /about another process/,
    ),
  ],

  'CN_C:01-01': [
    lostMessage(cn, 'accepted'),
    one('the verification has no @context', message(cn, 'verification', without('@context')), noContext),
    one('its request has no callbackAddress', message(cn, 'first', without('callbackAddress')), /callbackAddress/),
    never('the process is not served', notServed(cn), /still INITIAL/),
  ],
  'CN_C:01-02': [
    one(
      'the counter-offer has a callbackAddress',
      message(cn, 'request', withValue('callbackAddress', 'http://x')),
      /callbackAddress and a providerPid/,
    ),
    one(
      'the counter-offer is for another dataset',
      message(cn, 'request', inside('offer', withValue('target', 'x'))),
      /its target is "x"/,
    ),
  ],
  'CN_C:01-03': [
    lostMessage(cn, 'termination'),
    one(
      '@type is an IRI',
      message(cn, 'termination', withValue('@type', 'dspace:ContractNegotiationTerminationMessage')),
      /@type/,
    ),
  ],
  'CN_C:01-04': [
    one('it fails at the agreement', answered(cn, 'agreement', status(500)), /agreement was answered 500/),
    one(
      'the verification names another process',
      message(cn, 'verification', withValue('consumerPid', 'x')),
      /its consumerPid is x/,
    ),
  ],
  'CN_C:02-01': [
    one(
      'it terminates by itself',
      extra(cn, 'provider', 'termination', 'REQUESTED'),
      /nothing was expected in REQUESTED, and termination came/,
    ),
    one(
      'its request names an unknown context',
      message(cn, 'first', withValue('@context', ['https://w3id.org/dspace/2025/1/context.jsonld', 'http://x/y'])),
      /contexts that nobody knows/,
    ),
  ],
  'CN_C:02-02': [
    lostMessage(cn, 'termination'),
    one(
      'its request has no rules',
      message(cn, 'first', inside('offer', without('permission'))),
      /neither permission nor prohibition/,
    ),
  ],
  'CN_C:02-03': [
    lostMessage(cn, 'termination'),
    one('the reason is an empty list', message(cn, 'termination', withValue('reason', [])), /reason: is empty/),
  ],
  'CN_C:02-04': [
    one(
      'it accepts nonetheless',
      extra(cn, 'provider', 'accepted', 'OFFERED'),
      /nothing was expected in OFFERED, and accepted came/,
    ),
    one('it refuses the offer', answered(cn, 'offer', status(400)), /offer was answered 400/),
  ],
  'CN_C:02-05': [
    one(
      'it says FINALIZED for ACCEPTED',
      message(cn, 'accepted', withValue('eventType', 'FINALIZED')),
      /was expected|404/,
    ),
    never('it is never ACCEPTED', shownAs(cn, 'ACCEPTED', 'OFFERED'), /still OFFERED and not ACCEPTED/),
  ],
  'CN_C:02-06': [
    lostMessage(cn, 'verification'),
    one('the verification comes twice', doubled(cn, 'verification'), /verification came|is VERIFIED/),
  ],
  'CN_C:03-01': [...refusals(cn, 'finalized'), untyped(cn, 'finalized')],
  'CN_C:03-02': [
    ...refusals(cn, 'agreement'),
    one('it is AGREED afterwards', shownAs(cn, 'OFFERED', 'AGREED', 2), /is AGREED and not OFFERED/),
  ],
  'CN_C:03-03': [...refusals(cn, 'finalized'), notFound(cn, 'finalized')],
  'CN_C:03-04': refusals(cn, 'finalized'),
  'CN_C:03-05': [...refusals(cn, 'offer', 2), untyped(cn, 'offer', 2)],
  'CN_C:03-06': [
    ...refusals(cn, 'finalized'),
    one(
      'it verifies nonetheless',
      extra(cn, 'provider', 'verification', 'AGREED'),
      /nothing was expected in AGREED, and verification came/,
    ),
  ],

  'TP:01-01': [
    lostMessage(tp, 'termination'),
    one('the start has no @context', message(tp, 'start', without('@context')), noContext),
    one(
      'the start of a pull has no dataAddress',
      message(tp, 'start', without('dataAddress')),
      /a pull has no dataAddress/,
    ),
    one('the request is answered 200', answered(tp, 'first', status(200)), /answered 200 and not 201/),
  ],
  'TP:01-02': [
    lostMessage(tp, 'completion'),
    one(
      'it terminates for completing',
      message(tp, 'completion', withValue('@type', 'TransferTerminationMessage')),
      /@type/,
    ),
  ],
  'TP:01-03': [
    lostMessage(tp, 'suspension'),
    one('the suspension has no pids', message(tp, 'suspension', without('providerPid')), /providerPid/),
  ],
  'TP:01-04': [
    lostMessage(tp, 'start', 2),
    one(
      'a property of the address is no text',
      message(
        tp,
        'start',
        inside('dataAddress', withValue('endpointProperties', [{ '@type': 'EndpointProperty', name: 'n', value: 1 }])),
      ),
      /value/,
    ),
  ],
  'TP:01-05': [
    lostMessage(tp, 'termination'),
    one(
      'it starts first',
      extra(tp, 'consumer', 'start', 'REQUESTED'),
      /termination was expected|nothing was expected/,
    ),
  ],
  'TP:02-01': [
    one('it refuses the termination', answered(tp, 'termination', status(400)), /termination was answered 400/),
    never('it is STARTED for ever', shownAs(tp, 'TERMINATED', 'STARTED'), /still STARTED and not TERMINATED/),
  ],
  'TP:02-02': [
    one('it refuses the completion', answered(tp, 'completion', status(400)), /completion was answered 400/),
    one(
      'it terminates after the completion',
      extra(tp, 'consumer', 'termination', 'COMPLETED'),
      /and termination came/,
    ),
  ],
  'TP:02-03': [
    one('it fails at the suspension', answered(tp, 'suspension', status(500)), /suspension was answered 500/),
    one('it starts again by itself', extra(tp, 'consumer', 'start', 'SUSPENDED'), /and start came/),
  ],
  'TP:02-05': [
    one(
      'it starts nonetheless',
      extra(tp, 'consumer', 'start', 'REQUESTED'),
      /nothing was expected in REQUESTED, and start came/,
    ),
    one('the process has no consumerPid', shown(tp, without('consumerPid')), /consumerPid/),
  ],
  'TP:03-01': [...refusals(tp, 'completion'), untyped(tp, 'completion')],
  'TP:03-02': [...refusals(tp, 'suspension'), notFound(tp, 'suspension')],
  'TP:03-03': [
    ...refusals(tp, 'completion'),
    one('it is COMPLETED afterwards', shownAs(tp, 'SUSPENDED', 'COMPLETED', 2), /is COMPLETED and not SUSPENDED/),
  ],
  'TP:03-04': refusals(tp, 'start'),
  'TP:03-05': [...refusals(tp, 'suspension'), untyped(tp, 'suspension')],
  'TP:03-06': refusals(tp, 'completion'),

  'TP_C:01-01': [
    never('the process is not served', notServed(tp), /still INITIAL/),
    one('its request names no format', message(tp, 'first', without('format')), /format/),
  ],
  'TP_C:01-02': [
    one('it refuses the completion', answered(tp, 'completion', status(400)), /completion was answered 400/),
    one('its request names another format', message(tp, 'first', withValue('format', 'x')), /its format is x/),
  ],
  'TP_C:01-03': [
    one('it fails at the suspension', answered(tp, 'suspension', status(500)), /suspension was answered 500/),
    one('it shows the process of somebody else', shown(tp, withValue('providerPid', 'x')), /of another process/),
  ],
  'TP_C:01-04': [
    one('it does not resume', answered(tp, 'start', status(400), 2), /start was answered 400/),
    one('it completes by itself', extra(tp, 'provider', 'completion', 'STARTED'), /and completion came/),
  ],
  'TP_C:01-05': [
    one('it refuses the termination', answered(tp, 'termination', status(400)), /termination was answered 400/),
  ],
  'TP_C:02-01': [
    lostMessage(tp, 'termination'),
    one('the termination has no @context', message(tp, 'termination', without('@context')), noContext),
  ],
  'TP_C:02-02': [
    lostMessage(tp, 'completion'),
    one('the completion comes twice', doubled(tp, 'completion'), /and completion came/),
  ],
  'TP_C:02-03': [lostMessage(tp, 'suspension'), lostMessage(tp, 'termination')],
  'TP_C:02-05': [lostMessage(tp, 'termination'), one('no request comes', lost(tp, 'first'), /no request came within/)],
  'TP_C:03-01': [...refusals(tp, 'completion'), untyped(tp, 'completion')],
  'TP_C:03-02': refusals(tp, 'suspension'),
  'TP_C:03-03': [...refusals(tp, 'completion'), notFound(tp, 'completion')],
  'TP_C:03-04': refusals(tp, 'start', 2),
  'TP_C:03-05': refusals(tp, 'suspension'),
  'TP_C:03-06': [
    ...refusals(tp, 'completion'),
    one('it is COMPLETED afterwards', shownAs(tp, 'TERMINATED', 'COMPLETED', 2), /is COMPLETED and not TERMINATED/),
  ],
};
