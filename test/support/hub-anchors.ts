import { anchoredCheckpoint } from '../../contracts/anchor/served.ts';
import { systemClock } from '../../kernel/clock.ts';
import type { AnchorWorld } from './anchor-world.ts';
import { anvilKeys } from './anvil.ts';

/** A hub that anchors, and a chain that goes on. */

/** Makes blocks until it is disposed. */
export const keepMining = ({ anvil }: AnchorWorld): AsyncDisposable => {
  const stop = new AbortController();
  const loop = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await anvil.mine();
      await systemClock.sleep(50, stop.signal);
    }
  };
  const looping = loop();
  return {
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await looping;
    },
  };
};

/** A broker's settings for this chain. */
export const anchorEnv = ({ anvil, target }: AnchorWorld): Record<string, string> => ({
  STEKKER_ANCHOR_RPC: anvil.url,
  STEKKER_ANCHOR_CHAIN_ID: anvil.chainId,
  STEKKER_ANCHOR_CONTRACT: target.contract,
  STEKKER_ANCHOR_KEY: anvilKeys[1],
  STEKKER_ANCHOR_SECONDS: '1',
});

/** The first final anchor that covers an entry, once there is one. */
export const covering = async (logUrl: string, index: number) => {
  for (let tries = 0; tries < 600; tries += 1) {
    const answer = await fetch(`${logUrl}/anchors/newest?covers=${index}`);
    if (answer.status === 200) return anchoredCheckpoint.parse(await answer.json());
    if (answer.status !== 404) throw new Error(`${answer.status} ${await answer.text()}`);
    await systemClock.sleep(50);
  }
  throw new Error(`no final anchor covers entry ${index}`);
};
