/** Scopes of DCP (dcp §5.1): which credentials a verifier asks for. */

export type Scope = { readonly by: 'type'; readonly type: string } | { readonly by: 'id'; readonly id: string };

const typeAlias = 'org.eclipse.dspace.dcp.vc.type';
const idAlias = 'org.eclipse.dspace.dcp.vc.id';

/** The scope that asks for credentials of a type. */
export const scopeOfType = (type: string): string => `${typeAlias}:${type}`;

/**
 * Reads a scope; undefined for an alias that is unknown. A last `:read` is accepted, because other implementations send it.
 *
 * @example readScope('org.eclipse.dspace.dcp.vc.type:MembershipCredential') // { by: 'type', type: 'MembershipCredential' }
 */
export const readScope = (text: string, typeAliases: readonly string[] = []): Scope | undefined => {
  const separator = text.indexOf(':');
  const alias = text.slice(0, separator);
  const rest = text.slice(separator + 1).replace(/:read$/, '');
  if (separator < 1 || rest === '' || text.length > 1024) return undefined;
  if (alias === idAlias) return { by: 'id', id: rest };
  return alias === typeAlias || typeAliases.includes(alias) ? { by: 'type', type: rest } : undefined;
};

/** Whether a scope asks for this credential. */
export const scopeCovers = (
  scope: Scope,
  credential: { readonly id: string; readonly types: readonly string[] },
): boolean => (scope.by === 'id' ? credential.id === scope.id : credential.types.includes(scope.type));
