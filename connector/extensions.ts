import { z } from 'zod';

/** Our extensions of the protocol, as they are announced (wire §1, dsp §12), and which of them this deployment serves. */

export const extensionIds = ['agreements', 'statements', 'tokens', 'catalog'] as const;
export type ExtensionId = (typeof extensionIds)[number];

/**
 * What a `cosigned` agreement needs, all of it: both sign it, a token names its key, and its statements are signed. Peers
 * take whoever announces extensions for one who can (wire §3), so nobody announces without these.
 */
const cosigning: readonly ExtensionId[] = ['agreements', 'statements', 'tokens'];

const isId = (word: string): word is ExtensionId => extensionIds.some((id) => id === word);

/** `all`, `none`, or names with spaces or commas between them. */
export const extensionsText = z
  .string()
  .default('all')
  .transform((text, context): readonly ExtensionId[] => {
    const words = text.split(/[ ,]+/).filter((word) => word !== '');
    if (words.length === 1 && words[0] === 'all') return extensionIds;
    if (words.length === 1 && words[0] === 'none') return [];
    const ids = [...new Set(words.filter(isId))];
    const refuse = (message: string) => {
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    };
    if (words.length === 0 || words.some((word) => !isId(word)))
      return refuse(`is neither all, none nor names of ${extensionIds.join(', ')}`);
    const missing = cosigning.filter((id) => !ids.includes(id));
    return missing.length === 0 ? ids : refuse(`lacks ${missing.join(' and ')}: ${cosigning.join(', ')} go together`);
  });

/** Whether cosigned agreements can be made here. */
export const canCosign = (served: readonly ExtensionId[]): boolean => cosigning.every((id) => served.includes(id));

/** The document at `<root>/.well-known/stekker`. */
export const announced = (served: readonly ExtensionId[]) => ({
  extensions: extensionIds
    .filter((id) => served.includes(id))
    .map((id) => ({ id, version: '1', path: `/ext/1/${id}` })),
});
