declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

/**
 * A decentralised identifier as it stands on the wire, exact string (`wire.md` §1: `did:web`). A peer whose identity is none
 * stands in the same places under the name it proved: it resolves to nothing, so it has no keys and no extensions.
 */
export type Did = Branded<'Did'>;
/** `b64u H(agreement payload)`: the key of everything that happens under an agreement (wire §3). */
export type AgreementDigest = Branded<'AgreementDigest'>;
/** The local name of one participant of this deployment; part of every key (DESIGN §3, multi-tenant). */
export type ParticipantId = Branded<'ParticipantId'>;

const didPattern = /^did:[a-z0-9]+:[A-Za-z0-9._:%-]{1,240}$/;

/** True for a syntactically sound DID without path, query or fragment. */
export const isDid = (text: string): text is Did => didPattern.test(text);

/** The name of a party in the Dataspace Protocol: a DID, or one word of a data space that has none; never a broken DID. */
export const isPartyId = (text: string): text is Did =>
  isDid(text) || (!text.startsWith('did:') && /^[^\p{Cc}\p{Cs}\s]{1,256}$/u.test(text));

/** The DID of a key id: what stands before the fragment. */
export const didOfKid = (kid: string): string => kid.replace(/#.*$/s, '');

/** The lower-case UUIDv7 form that request ids must have (ledger §7). */
export const isUuidV7 = (text: string): boolean =>
  /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(text);

/** Milliseconds since the epoch that a UUIDv7 carries (RFC 9562 §5.7). */
export const uuidV7Time = (uuid: string): number => Number.parseInt(uuid.slice(0, 8) + uuid.slice(9, 13), 16);
