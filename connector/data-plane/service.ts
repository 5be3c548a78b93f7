import { createGrants, type Grants, type GrantsOptions } from './grants.ts';
import { createTokens, type Tokens, type TokensOptions } from './tokens.ts';

/** What the listener, the token endpoint and the transfers of a provider share. */
export interface DataPlane {
  readonly grants: Grants;
  readonly tokens: Tokens;
}

export type DataPlaneOptions = GrantsOptions & Omit<TokensOptions, 'grants'>;

/** Brings back what was open when the program stopped; nothing listens before. */
export const createDataPlane = async (options: DataPlaneOptions): Promise<DataPlane> => {
  const grants = createGrants(options);
  await grants.load();
  return { grants, tokens: createTokens({ ...options, grants }) };
};
