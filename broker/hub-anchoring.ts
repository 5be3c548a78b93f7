import type { Hono } from 'hono';
import type { FinalAnchor } from '../contracts/anchor/served.ts';
import { AppError } from '../contracts/errors.ts';
import { readPolicy } from '../contracts/ledger/note.ts';
import { nodeCrypto } from '../kernel/crypto.ts';
import { keccak256 } from '../kernel/keccak.ts';
import { connectEvm, type EvmParts, evmChainHead, tileRootAt } from './adapters/evm/connect.ts';
import { sqlAnchorStore } from './adapters/sql/anchor-store.ts';
import { createFinals, type Finals } from './anchoring/finals.ts';
import type { AnchorStore, AnchorTarget } from './anchoring/ports.ts';
import { createAnchoringRoutes } from './anchoring/routes.ts';
import { anchorPace, defaultLeastTip } from './anchoring/rules.ts';
import { Anchoring, type AnchoringStatus } from './anchoring/service.ts';
import type { Base } from './base.ts';
import { type AnchorSettings, anchorSettings } from './config.ts';
import type { ChainHead, CheckpointFeed, LogFiles } from './ledger/ports.ts';
import { logPathOf } from './ledger/routes.ts';
import type { AnchorControl, ShownAnchor } from './management/ports.ts';

/** Anchoring, as the hub has it: nothing of a chain is loaded or asked where none is configured. */

interface HubAnchoringOptions {
  readonly origin: string;
  /** Whose signatures a checkpoint must have. */
  readonly policy: string;
  /** The served files of the log. */
  readonly files: Pick<LogFiles, 'read'>;
}

export interface HubAnchoring {
  readonly settings: AnchorSettings | undefined;
  /** What the log asks before it signs anything. */
  readonly chain: ChainHead;
  /** Hears of checkpoints; before `begin` they go unheard. */
  readonly feed: CheckpointFeed;
  /** Begins to anchor, with the newest checkpoint, while this process writes the log: after its start-up checks. */
  readonly begin: (newest: () => string | undefined) => Promise<AsyncDisposable>;
  readonly routes: Hono;
  readonly control: AnchorControl;
  /** Null where nothing is anchored. */
  readonly status: () => Promise<AnchoringStatus | null>;
  /** Undefined where nothing is anchored, or not by this process. */
  readonly isLate: () => boolean | undefined;
}

const weiPerGwei = 1_000_000_000n;
const shownAnchors = 100;

const startAnchoring = (
  { config, clock, log }: Base,
  { origin, policy, files }: HubAnchoringOptions,
  its: { readonly store: AnchorStore; readonly evm: EvmParts; readonly settings: AnchorSettings },
): Promise<Anchoring> => {
  const read = readPolicy(nodeCrypto, policy);
  if (!read.ok) throw new AppError('invariant-broken', { detail: `our own policy: ${read.reason}` });
  const intervalMs = config.STEKKER_ANCHOR_SECONDS * 1_000;
  const feeCeiling = BigInt(config.STEKKER_ANCHOR_MAX_FEE_GWEI) * weiPerGwei;
  const { chainId, contract } = its.settings;
  const { chain, second, account } = its.evm;
  return Anchoring.start({
    ...anchorPace(intervalMs),
    chain,
    second,
    account,
    target: { origin, chainId, contract },
    store: its.store,
    rootAt: tileRootAt(nodeCrypto, files.read),
    policy: read.value,
    crypto: nodeCrypto,
    keccak256,
    clock,
    log,
    feeCeiling,
    leastTip: defaultLeastTip,
  });
};

const showOpen = ({ size, state, attempts, place }: AnchoringStatus['open'][number]): ShownAnchor => ({
  size: String(size),
  state,
  transaction: place?.transaction ?? attempts.at(-1)?.hash ?? null,
  block: place === null ? null : String(place.blockNumber),
});

const showFinal = ({ size, transaction, blockNumber }: FinalAnchor): ShownAnchor => ({
  size: String(size),
  state: 'final',
  transaction,
  block: String(blockNumber),
});

/** How anchoring goes on, as the rows say; why something waits knows only the process that anchors. */
const statusOfRows = async (store: AnchorStore, finals: Finals, target: AnchorTarget): Promise<AnchoringStatus> => {
  const open = await store.open(target);
  const [newest] = await finals.finals({ limit: 1 });
  const waitingSince = open.length === 0 ? null : Math.min(...open.map(({ createdAt }) => createdAt));
  return { newestFinal: newest ?? null, open, waitingSince, reason: null, isStopped: false };
};

/**
 * Composes anchoring; asks nothing of the chain yet. What was anchored before is served with or without a chain.
 *
 * @throws AppError `config-invalid`.
 */
export const composeAnchoring = async (base: Base, options: HubAnchoringOptions): Promise<HubAnchoring> => {
  const { db, log, own } = base;
  const { origin } = options;
  const settings = anchorSettings(base.config);
  const evm = settings && own(await connectEvm(settings));
  const store = sqlAnchorStore(db);
  const finals = createFinals(store, origin);
  let anchoring: Anchoring | undefined;
  const status = async (): Promise<AnchoringStatus | null> => {
    if (anchoring !== undefined) return await anchoring.status();
    return settings === undefined ? null : await statusOfRows(store, finals, { origin, ...settings });
  };
  return {
    settings,
    chain:
      evm === undefined || settings === undefined
        ? { head: async () => ({ state: 'none' }) }
        : evmChainHead({ chain: evm.chain, log }, settings),
    feed: (note) => anchoring?.feed(note),
    begin: async (newest) => {
      if (evm === undefined || settings === undefined) return { [Symbol.asyncDispose]: async () => undefined };
      const begun = await startAnchoring(base, options, { store, evm, settings });
      anchoring = begun;
      const note = newest(); // asked now: what was published until this moment went unheard
      if (note !== undefined) begun.feed(note);
      return {
        [Symbol.asyncDispose]: async () => {
          await begun.close();
          anchoring = undefined;
        },
      };
    },
    routes: createAnchoringRoutes({ base: logPathOf(origin), anchoring: finals, log }),
    control: {
      list: async () => {
        const open = (await status())?.open ?? [];
        const done = await finals.finals({ limit: shownAnchors });
        return [...open.toReversed().map(showOpen), ...done.map(showFinal)];
      },
    },
    status,
    isLate: () => anchoring?.isLate,
  };
};
