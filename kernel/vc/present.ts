import type { Did } from '../../contracts/ids.ts';
import { buildPresentation } from '../../contracts/vc/presentation.ts';
import { signByJose } from '../jwt.ts';
import type { ParticipantKeys } from '../keys.ts';

/** Presentations of our own credentials (dcp §5.1), each made for one verifier and one request. */

export const presentationJwtType = 'vp+jwt';
/** A presentation is read at once, or never. */
const lifetimeSeconds = 60;

export interface PresentOptions {
  readonly keys: ParticipantKeys;
  /** The verifier, and nobody else. */
  readonly audience: Did;
  /** Credentials as JWT. */
  readonly jwts: readonly string[];
  readonly now: number;
  readonly jti: string;
}

export const presentAsJwt = ({ keys, audience, jwts, now, jti }: PresentOptions): Promise<string> => {
  const iat = Math.floor(now / 1_000);
  const claims = { iss: keys.did, sub: keys.did, aud: audience, jti, iat, exp: iat + lifetimeSeconds };
  return signByJose(keys.authentication, presentationJwtType, { ...buildPresentation(keys.did, jwts), ...claims });
};
