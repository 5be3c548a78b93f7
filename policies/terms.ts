import { odrlNamespace } from '../contracts/odrl/policy.ts';

/** Names of ODRL and of our own, and how peers may write them (odrl §2). */

export const ownNamespace = 'urn:stekker:1:';

/** EDC's context makes one bare word of a term of its own. */
const edcInForceDate = 'https://w3id.org/edc/v0.0.1/ns/inForceDate';

/** A term as a full IRI: bare and prefixed names of ODRL are brought to one form. */
export const fullIri = (term: string): string => {
  if (term === 'inForceDate') return edcInForceDate;
  if (term.startsWith('odrl:')) return `${odrlNamespace}${term.slice(5)}`;
  return /^[A-Za-z]+$/.test(term) ? `${odrlNamespace}${term}` : term;
};

/** A term as people write it, for messages. */
export const shortName = (iri: string): string => {
  if (iri.startsWith(odrlNamespace)) return `odrl:${iri.slice(odrlNamespace.length)}`;
  return iri.startsWith(ownNamespace) ? iri.slice(ownNamespace.length) : iri;
};

/** Deprecated names of ODRL 2.2, and what they are called now. */
const renamed: Readonly<Record<string, string>> = {
  pay: 'compensate',
  write: 'modify',
  copy: 'reproduce',
  writeTo: 'modify',
  lease: 'lend',
  license: 'grantUse',
  append: 'modify',
  appendTo: 'modify',
  commercialize: 'commercialize',
};

/** The action that each one is included in (ODRL vocabulary); what is not here is included in nothing. */
const includedIn: Readonly<Record<string, string>> = {
  aggregate: 'use',
  annotate: 'use',
  anonymize: 'use',
  archive: 'use',
  attribute: 'use',
  compensate: 'use',
  concurrentUse: 'use',
  delete: 'use',
  derive: 'use',
  digitize: 'use',
  distribute: 'use',
  ensureExclusivity: 'use',
  execute: 'use',
  grantUse: 'use',
  include: 'use',
  index: 'use',
  inform: 'use',
  install: 'use',
  modify: 'use',
  move: 'use',
  nextPolicy: 'use',
  obtainConsent: 'use',
  play: 'use',
  present: 'use',
  print: 'use',
  read: 'use',
  reproduce: 'use',
  reviewPolicy: 'use',
  stream: 'use',
  synchronize: 'use',
  textToSpeech: 'use',
  transform: 'use',
  translate: 'use',
  uninstall: 'use',
  watermark: 'use',
  acceptTracking: 'use',
  display: 'play',
  extract: 'reproduce',
  sell: 'transfer',
  give: 'transfer',
};

/** The name of an action today, as a full IRI. */
export const currentAction = (term: string): string => {
  const iri = fullIri(term);
  const local = iri.startsWith(odrlNamespace) ? iri.slice(odrlNamespace.length) : undefined;
  const now = local === undefined ? undefined : renamed[local];
  return now === undefined ? iri : `${odrlNamespace}${now}`;
};

/** An action and all that it is included in, from narrow to wide. */
export const actionsAbove = (action: string): readonly string[] => {
  const above = [action];
  for (
    let local = action.slice(odrlNamespace.length);
    action.startsWith(odrlNamespace) && includedIn[local] !== undefined;
  ) {
    local = includedIn[local] ?? '';
    above.push(`${odrlNamespace}${local}`);
  }
  return above;
};

/** Whether an action is one of the vocabulary: others match only themselves, and we cannot enforce them. */
export const isKnownAction = (action: string): boolean => {
  const local = action.startsWith(odrlNamespace) ? action.slice(odrlNamespace.length) : '';
  return includedIn[local] !== undefined || local === 'use' || local === 'transfer';
};

/** Duties that are done before the access; an unknown duty counts as one of them (odrl §3.6). */
export const dutiesAfter: ReadonlySet<string> = new Set(
  ['attribute', 'inform', 'delete', 'anonymize'].map((name) => `${odrlNamespace}${name}`),
);
