import type { CursorSeal, Visibility } from '../../connector/catalog/ports.ts';
import type { Did } from '../../contracts/ids.ts';

/** A catalog in which a test says who sees which offer; for the rules that policies make see the connector's own. */
export const visibleWhen = (sees: (caller: Did, offer: string) => boolean): Visibility => ({
  viewer: async (_participant, did) => ({ did, canCosign: true }),
  sees: (viewer, offer) => sees(viewer.did, offer.id),
  showing: () => ({ readers: [''], turnsAt: null }),
});

/** Cursors that a test can read. */
export const openCursors: CursorSeal = {
  seal: (text) => Buffer.from(text).toString('base64url'),
  unseal: (text) => Buffer.from(text, 'base64url').toString(),
};
