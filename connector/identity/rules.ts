import type { CredentialMessage, PresentationQueryMessage } from '../../contracts/dcp/messages.ts';
import { jwtProfile } from '../../contracts/dcp/messages.ts';
import { readScope, type Scope, scopeCovers } from '../../contracts/dcp/scope.ts';
import { AppError, type Fault } from '../../contracts/errors.ts';
import { type Credential, type CredentialType, typeOf } from '../../contracts/vc/credential.ts';
import { maxPresented } from '../../contracts/vc/presentation.ts';
import type { CredentialRequest, HeldCredential } from './ports.ts';

/** Rules of the wallet (dcp §5, §6). */

/** Topics of the outbox: requests to send, offers to take up. */
export const requestTopic = 'credential-request';
export const offerTopic = 'credential-offer';

const known: readonly CredentialType[] = ['MembershipCredential', 'ApplicationAccreditationCredential'];

/** The type of that name, if it is one we can read. */
export const knownType = (name: string | null): CredentialType | undefined => known.find((type) => type === name);

/** What a credential speaks about: an issuer's membership, or its accreditation of one version of an application. */
export const matterOf = (credential: Credential): string => {
  const { credentialSubject: subject, issuer } = credential;
  const application = 'application' in subject ? ` ${subject.application.id}@${subject.application.version}` : '';
  return `${typeOf(credential)} ${issuer}${application}`;
};

/** An issuer's clock may be ahead of ours; verifiers allow for as much. */
const skewMs = 60_000;

/** Of each matter the newest that holds now, in the order they came in. */
export const newestOfEach = (
  held: readonly HeldCredential[],
  now: number,
  isGood: (id: string) => boolean,
): HeldCredential[] => {
  const newest = new Map<string, HeldCredential>();
  for (const one of held) {
    if (one.validFrom > now + skewMs || one.validUntil <= now || !isGood(one.id)) continue;
    const other = newest.get(one.matter);
    if (other === undefined || one.validFrom > other.validFrom) newest.set(one.matter, one);
  }
  return [...newest.values()];
};

const invalid = (faults: readonly Fault[]): AppError => new AppError('body-invalid', { faults });

const isEmptyObject = (value: unknown): boolean =>
  value === null || (typeof value === 'object' && Object.keys(value).length === 0);

const refuseDefinition = (definition: unknown, hasScope: boolean): never => {
  if (hasScope) throw invalid([{ path: '/presentationDefinition', message: 'cannot stand beside a scope' }]);
  if (isEmptyObject(definition)) throw invalid([{ path: '/presentationDefinition', message: 'asks for nothing' }]);
  throw new AppError('presentation-definition-unsupported');
};

/**
 * The scopes of a query (dcp §5.1).
 *
 * @throws AppError `body-invalid` for both ways of asking, none, or an alias that is unknown;
 * `presentation-definition-unsupported`.
 */
export const scopesOf = (message: PresentationQueryMessage, typeAliases: readonly string[]): Scope[] => {
  const { scope, presentationDefinition } = message;
  if (presentationDefinition !== undefined) return refuseDefinition(presentationDefinition, scope !== undefined);
  if (scope === undefined || scope.length === 0) throw invalid([{ path: '/scope', message: 'asks for nothing' }]);
  const read = scope.map((text) => readScope(text, typeAliases));
  const faults = read.flatMap((one, index) =>
    one === undefined ? [{ path: `/scope/${index}`, message: 'is no scope that is known here' }] : [],
  );
  if (faults.length > 0) throw invalid(faults);
  return read.filter((one) => one !== undefined);
};

const rank = ({ type }: HeldCredential): number => known.indexOf(type);

/**
 * What a verifier gets: what it asks for, as far as its access token goes; the rest is left out without an error. No more
 * than a verifier looks at, memberships first.
 */
export const shownTo = (
  credentials: readonly HeldCredential[],
  asked: readonly Scope[],
  granted: readonly Scope[],
): HeldCredential[] =>
  credentials
    .filter((one) => {
      const named = { id: one.id, types: [one.type] };
      const covers = (scope: Scope) => scopeCovers(scope, named);
      return asked.some(covers) && granted.some(covers);
    })
    .toSorted((a, b) => rank(a) - rank(b))
    .slice(0, maxPresented);

/** Everything that is wrong with the form of a delivery; whether its credentials hold is checked one by one. */
export const deliveryFaults = ({ status, credentials = [] }: CredentialMessage): Fault[] => {
  if (status === 'REJECTED')
    return credentials.length === 0 ? [] : [{ path: '/credentials', message: 'cannot stand in a rejection' }];
  if (credentials.length === 0) return [{ path: '/credentials', message: 'is missing' }];
  return credentials.flatMap(({ format }, index) =>
    format === jwtProfile ? [] : [{ path: `/credentials/${index}/format`, message: `is not ${jwtProfile}` }],
  );
};

/** Whether two requests ask for the same. */
export const asksForSame = (
  request: Pick<CredentialRequest, 'type' | 'object'>,
  wanted: Pick<CredentialRequest, 'type' | 'object'>,
): boolean =>
  request.type === wanted.type && (wanted.object === '' || request.object === '' || request.object === wanted.object);

type OfferedEntries = readonly { readonly id: string; readonly credentialType?: unknown; readonly profile?: unknown }[];

/** What of an offer could be for us: entries of our profile, of a type we can read or that must be looked up. */
export const offeredObjects = (entries: OfferedEntries): { readonly id: string; readonly type: string | null }[] =>
  entries
    .filter(({ profile }) => profile === undefined || profile === jwtProfile)
    .map(({ id, credentialType }) => ({ id, type: typeof credentialType === 'string' ? credentialType : null }))
    .filter(({ type }) => type === null || knownType(type) !== undefined);

/** Whether a request may be sent again after this answer; 401 because the issuer may not have been able to read our document. */
export const mayAskAgain = (status: number, attempts: number): boolean =>
  status >= 500 || [408, 425, 429].includes(status) || (status === 401 && attempts < 10);
