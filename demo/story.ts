import { runApplication } from './stage/application.ts';
import type { StageOptions } from './stage/chain.ts';
import { claimRows } from './stage/claims.ts';
import { type Anchor, gatherEvidence } from './stage/evidence.ts';
import { accreditApplication, joinEverybody } from './stage/joining.ts';
import { agreeToAll, findOffers, publishAll } from './stage/market.ts';
import { type Refusal, showRefusals } from './stage/refusals.ts';
import type { Report } from './stage/report.ts';
import type { Scene } from './stage/scene.ts';
import { type Service, type Stack, startStack } from './stage/stack.ts';
import { type Amount, readReceipts, verifyEverything } from './stage/verification.ts';

/** What the demo shows, in numbers: `--json` prints it. */
export interface Summary {
  readonly accesses: number;
  readonly receiptsVerified: number;
  readonly refusals: readonly Refusal[];
  readonly anchors: readonly Anchor[];
  readonly stops: { readonly revocationMs: number };
  readonly amounts: readonly Amount[];
}

export interface StoryOptions extends StageOptions {
  readonly report: Report;
  /** Stops everything that was started. */
  readonly stopAll: () => Promise<void>;
  /** Leave it running. */
  readonly keep: boolean;
}

const servicesOf = ({ broker, accreditor, holders, runtime }: Stack): readonly Service[] => [
  broker,
  accreditor,
  ...Object.values(holders),
  runtime,
];

const begin = async (options: StoryOptions): Promise<Stack> => {
  const { report } = options;
  report.step('Six services start, each a process of its own, beside three sources');
  const stack = await startStack(options);
  const rows = servicesOf(stack).map(({ name, title, did, running }) => [name, title, did, String(running.pid)]);
  report.table([['service', 'organisation', 'identity', 'process'], ...rows]);
  return stack;
};

const showAddresses = (report: Report, stack: Stack): void => {
  const rows = servicesOf(stack).map(({ name, url, managementUrl, tokenFile }) => [
    name,
    url,
    managementUrl,
    tokenFile,
  ]);
  report.table([['service', 'public', 'management', 'token'], ...rows]);
  report.say(`gateway for applications of the runtime: ${stack.runtime.gatewayUrl}`);
  if (stack.chain !== undefined) report.say(`node of the chain: ${stack.chain.url}`);
};

/** Nothing of ours may be alive when receipts are verified. */
const stopEverything = async ({ report, stopAll }: StoryOptions, { processes }: Stack): Promise<void> => {
  report.step('Everything is stopped');
  await stopAll();
  const alive = processes.filter(({ isAlive }) => isAlive()).map(({ name }) => name);
  if (alive.length > 0) throw new Error(`still running: ${alive.join(', ')}`);
  report.say(`None of the ${processes.length} processes is running any more.`);
};

/** The whole chain, once, on real data. */
export const tellStory = async (
  options: StoryOptions,
): Promise<{ readonly summary: Summary; readonly stack: Stack }> => {
  const { report, terminal, keep } = options;
  const stack = await begin(options);
  const scene: Scene = { ...options, stack };
  report.step('Everybody joins the data space');
  await joinEverybody(scene);
  report.step('An accreditor judges the application');
  const keys = await accreditApplication(scene);
  report.step('Three data holders publish');
  await publishAll(scene);
  report.step('The runtime looks in the store of the broker');
  await findOffers(scene);
  report.step('It agrees with all three at once');
  const agreements = await agreeToAll(scene, keys);
  report.step('The application runs: Evacuatie bij hoogwater');
  await runApplication(scene, keys, agreements);
  report.step('What is refused');
  const { refusals, revocationMs } = await showRefusals(scene, keys, agreements);
  report.step('The agreements end, and the evidence is written to files');
  const evidence = await gatherEvidence(scene, agreements, readReceipts);
  if (!keep) await stopEverything(options, stack);
  report.step('An auditor verifies every receipt, from files alone');
  const titles = new Map(servicesOf(stack).map(({ did, title }) => [did, title]));
  const titleOf = (did: string) => titles.get(did) ?? did;
  const { receiptsVerified, amounts } = await verifyEverything({ terminal, report, titleOf }, evidence);
  report.step('What of this is real');
  report.table(claimRows());
  if (keep) {
    report.step('It goes on running until you press Ctrl-C');
    showAddresses(report, stack);
  }
  const { accesses, anchors } = evidence;
  return { summary: { accesses, receiptsVerified, refusals, anchors, stops: { revocationMs }, amounts }, stack };
};
