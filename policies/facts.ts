/** What is known at the moment of a decision. An absent fact is unknown, and unknown never lets anybody through (odrl §3). */
export interface Facts {
  /** Milliseconds since the epoch. */
  readonly now?: number;
  /** When the agreement was made, in ms. */
  readonly agreedAt?: number;
  /** IRI of the declared purpose. */
  readonly purpose?: string;
  /** DID of the party that receives the data. */
  readonly recipient?: string;
  /** How many accesses there were under this agreement before this one. */
  readonly count?: number;
  /** DIDs of the brokers whose membership was proven. */
  readonly membership?: readonly string[];
  /** Roles of the proven membership. */
  readonly role?: readonly string[];
  /** Purposes that the named application is accredited for. */
  readonly accreditedFor?: readonly string[];
  /** `<application id>@<version>`. */
  readonly applicationVersion?: string;
  /** Digest of the price plan of the agreement. */
  readonly pricePlan?: string;
}

export type FactName = keyof Facts;

/** When a policy is looked at. Facts that come later are not asked for yet (odrl §4, "checked"). */
export const moments = ['catalog', 'negotiation', 'token', 'access'] as const;
export type Moment = (typeof moments)[number];

/** Three values (strong Kleene): what is unknown is neither. */
export type Truth = 'satisfied' | 'unsatisfied' | 'unknown';
