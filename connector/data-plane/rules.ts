import { AppError } from '../../contracts/errors.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';
import { type CompiledPolicy, compilePolicy } from '../../policies/compile.ts';
import { credentialFacts } from '../../policies/credential-facts.ts';
import type { Sentence } from '../../policies/explain.ts';
import { explain } from '../../policies/explain.ts';
import type { Facts, Moment } from '../../policies/facts.ts';
import { type ConstraintNode, parsePolicy } from '../../policies/parse.ts';
import type { AccessTerms, HeaderList } from './ports.ts';

/** Rules of an access that need no clock, key or socket (wire §4, §5). */

/** Tokens, proofs and request ids may differ from our clock by this much. */
export const clockMs = 60_000;
export const maxTokenMs = 300_000;
/** Exposure that is reserved at `open`, and again each time it is used up (wire §9). */
export const reservedBytes = 1_048_576;
export const maxTargetLength = 8_192;

/** A refusal, with the sentences of the policy that refused. */
export interface Refusal {
  readonly error: AppError;
  readonly reasons?: readonly Sentence[];
}

export interface Target {
  /** The transfer or the agreement, as it stands in its segment. */
  readonly first: string;
  /** What stands behind it, beginning with a slash, or empty. */
  readonly rest: string;
  /** With its question mark, or empty. */
  readonly query: string;
}

const segment = "[A-Za-z0-9:._~%!$&'()*+,;=@-]";
const transferTarget = new RegExp(`^/(${segment}{1,768})((?:/[^?#]*)?)(\\?[^#]*)?$`);
const gatewayTarget = new RegExp(`^/data/(${segment}{1,6144})((?:/[^?#]*)?)(\\?[^#]*)?$`);
/** What could lead out of the address that an owner published: dots, separators or dots in disguise (credentials §6). */
const leadsAway = /%2e|%2f|%5c|\\|\/\.{1,2}(\/|$)|[^\x21-\x7e]/i;

const split = (form: RegExp, target: string): Target | undefined => {
  const match = target.length > maxTargetLength ? null : form.exec(target);
  if (match === null) return undefined;
  const [, first = '', rest = '', query = ''] = match;
  if (first === '.' || first === '..' || leadsAway.test(rest) || /[^\x21-\x7e]/.test(query)) return undefined;
  return { first, rest, query };
};

/** Takes a raw request target `/<transfer>/…` apart; undefined for one that could lead somewhere else. */
export const splitTarget = (target: string): Target | undefined => split(transferTarget, target);

/** The same for `/data/<agreement>/…` of the gateway; the agreement as it stands, still encoded. */
export const splitGatewayTarget = (target: string): Target | undefined => split(gatewayTarget, target);

/** Headers of a request that go on to the source; everything else is between the two who speak. */
const passedOn: ReadonlySet<string> = new Set([
  'accept',
  'accept-charset',
  'accept-crs',
  'accept-datetime',
  'accept-encoding',
  'accept-language',
  'accept-profile',
  'cache-control',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'prefer',
  'range',
  'traceparent',
  'tracestate',
  'user-agent',
]);

/** What would make an answer that cannot be counted as items: parts of it, or codings (wire §2). */
const notWhereItemsCount: ReadonlySet<string> = new Set(['range', 'if-range', 'accept-encoding']);

export const goesOn = (name: string, countsItems: boolean): boolean =>
  passedOn.has(name) && !(countsItems && notWhereItemsCount.has(name));

/** Headers of an answer that stay behind: of the connection, secret, or ours to write. */
const staysBehind: ReadonlySet<string> = new Set([
  'alt-svc',
  'authentication-info',
  'connection',
  'content-location',
  'fsc-transaction-id',
  'keep-alive',
  'location',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-connection',
  'ratelimit',
  'server',
  'set-cookie',
  'stekker-request',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'via',
  'www-authenticate',
  'x-powered-by',
]);
/** What a provider says about the access itself, for the application to see. */
const saidByProvider: ReadonlySet<string> = new Set(['fsc-transaction-id', 'ratelimit']);

/** Names in a `Connection` header belong to that connection, too (RFC 9110 §7.6.1). */
const connectionNames = (headers: HeaderList): ReadonlySet<string> => {
  const names = new Set<string>();
  for (let index = 0; index < headers.length; index += 2)
    if (headers[index] === 'connection')
      for (const name of (headers[index + 1] ?? '').split(',')) names.add(name.trim().toLowerCase());
  return names;
};

/** The headers of an answer as they are passed on, names in lower case. */
export const passHeaders = (headers: HeaderList, from: 'source' | 'provider'): string[] => {
  const hidden = connectionNames(headers);
  const out: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index] ?? '';
    const isKept = !staysBehind.has(name) || (from === 'provider' && saidByProvider.has(name));
    if (isKept && !hidden.has(name)) out.push(name, headers[index + 1] ?? '');
  }
  return out;
};

/** Whether `features` of this answer are counted: whole, plain, of the one media type (wire §2). */
export const countsAsItems = (status: number, headers: HeaderList): boolean => {
  if (status !== 200) return false;
  let isFeatures = false;
  for (let index = 0; index < headers.length; index += 2) {
    const value = (headers[index + 1] ?? '').trim().toLowerCase();
    if (headers[index] === 'content-encoding' && value !== 'identity') return false;
    if (headers[index] === 'content-type') isFeatures = /^application\/geo\+json\s*(;|$)/.test(value);
  }
  return isFeatures;
};

export const countsItems = ({ pricePlan }: Pick<AccessTerms, 'pricePlan'>): boolean =>
  pricePlan?.lines.some(({ unit }) => unit === 'items') ?? false;

/** `RateLimit` of an answer: what is left until a statement is signed. */
export const rateLimit = ({ requests, bytes }: { readonly requests: number; readonly bytes: number }): string =>
  `"requests";r=${Math.max(0, requests)}, "bytes";r=${Math.max(0, bytes)}`;

/** Problem details (RFC 9457) with the reasons of a policy in both languages. */
export const problemText = ({ error, reasons }: Refusal): string => {
  const { code, title, status, detail, faults } = error;
  return JSON.stringify({
    type: `urn:stekker:1:error:${code}`,
    title,
    status,
    ...(error.expose && detail !== undefined ? { detail } : {}),
    ...(error.expose && faults.length > 0 ? { errors: faults } : {}),
    ...(reasons === undefined || reasons.length === 0 ? {} : { reasons }),
  });
};

const leaves = (node: ConstraintNode): readonly string[] =>
  node.kind === 'atomic' ? [node.operand.fact] : node.parts.flatMap(leaves);

/** Whether the rules ask about one of these facts; rules that cannot be read are compiled by nobody. */
const asksFor = (rules: AccessTerms['rules'], ...facts: readonly string[]): boolean => {
  const parsed = parsePolicy(rules);
  if (!parsed.ok) return false;
  const { permissions, prohibitions, obligations } = parsed.policy;
  const asked = [...permissions, ...prohibitions, ...obligations].flatMap((rule) => rule.constraints.flatMap(leaves));
  return facts.some((fact) => asked.includes(fact));
};

/** Whether the rules ask something that only an accreditation of the application can answer. */
export const needsAccreditation = (rules: AccessTerms['rules']): boolean =>
  asksFor(rules, 'accreditedFor', 'applicationVersion');

/** Whether the rules count accesses. */
export const countsAccesses = (rules: AccessTerms['rules']): boolean => asksFor(rules, 'count');

/** The rules of an agreement for one moment. @throws AppError `policy-invalid`: nothing is served under what cannot be read. */
export const compileTerms = (rules: AccessTerms['rules'], moment: Moment): CompiledPolicy => {
  const compiled = compilePolicy(rules, moment);
  if (!compiled.ok) throw new AppError('policy-invalid', { faults: compiled.faults });
  return compiled.policy;
};

/** Facts of one token that change with each access. */
export type AccessFacts = { -readonly [Name in keyof Facts]: Facts[Name] };

/** What is known of who asks, under these terms. */
export const factsFor = (
  terms: Pick<AccessTerms, 'consumer' | 'price' | 'agreedAt'>,
  credentials: CredentialFacts | undefined,
  { application, purpose }: { readonly application: string; readonly purpose: string },
): AccessFacts => ({
  recipient: terms.consumer,
  ...(terms.agreedAt === undefined ? {} : { agreedAt: terms.agreedAt }),
  ...credentialFacts(credentials, application),
  ...(purpose === '' ? {} : { purpose }),
  ...(terms.price === '' ? {} : { pricePlan: terms.price }),
});

/** The refusal of a policy, with every sentence of it. */
export const policyRefusal = (policy: CompiledPolicy, facts: Facts): Refusal => {
  const { reasons } = explain(policy, facts);
  return { error: new AppError('policy-denied', { detail: reasons.map(({ en }) => en).join(' ') }), reasons };
};

/** `<id>@<version>` of an application, both parts there. */
export const isApplicationId = (text: string): boolean =>
  /^[^\p{Cc}\p{Cs}\s]{1,1900}@[^\p{Cc}\p{Cs}\s@]{1,100}$/u.test(text);

export const isIri = (text: string): boolean =>
  text.length <= 2048 && /^[a-z][a-z0-9+.-]*:[^\s<>"{}|\\^`]+$/i.test(text);

/** A run of the consumer's own naming, or none. */
export const isRun = (text: string): boolean => text === '' || /^[^\p{Cc}\p{Cs}]{1,2048}$/u.test(text);
