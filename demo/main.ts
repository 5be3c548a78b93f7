import { once } from 'node:events';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createTerminal } from './stage/cli.ts';
import { lastWords } from './stage/failure.ts';
import { type Folder, prepareFolder } from './stage/folder.ts';
import { root } from './stage/processes.ts';
import { createReport, type Report } from './stage/report.ts';
import { tellStory } from './story.ts';

/** `npm run demo`: the whole chain on real data, in separate processes. Ends by itself and leaves nothing but its data folder. */

const help = `npm run demo -- [--json] [--keep] [--data FOLDER]

  --json         Print a summary as one JSON value, and nothing else, on standard output.
  --keep         Leave everything running, with its addresses printed, until Ctrl-C.
  --data FOLDER  Where everything goes that the demo leaves; default .demo, emptied at the start.
`;

interface Options {
  readonly json: boolean;
  readonly keep: boolean;
  readonly data: string;
}

const readOptions = (args: readonly string[]): Options | undefined => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      data: { type: 'string', default: join(root, '.demo') },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  return values.help ? undefined : values;
};

const complain = (report: Report, folder: Folder, error: unknown): void => {
  const why = error instanceof Error ? error.message : String(error);
  process.stderr.write(`\ndemo: "${report.current()}" failed: ${why}\n`);
  for (const line of lastWords(folder.logs)) process.stderr.write(`${line}\n`);
};

const exitCodes = { done: 0, failed: 1, wrong: 2, interrupted: 130 } as const;

const run = async ({ json, keep, data }: Options, signal: AbortSignal): Promise<number> => {
  const report = createReport(json ? undefined : (line) => process.stdout.write(`${line}\n`));
  const folder = prepareFolder(data);
  const terminal = createTerminal({ report, signal, cache: folder.at('cache') });
  const owned: AsyncDisposable[] = [];
  /** All at once, for each of them must be able to lose the others; only what stood first, the chain, ends last. */
  const stopAll = async () => {
    const [first, ...others] = owned.splice(0);
    await Promise.all(others.map((resource) => resource[Symbol.asyncDispose]()));
    await first?.[Symbol.asyncDispose]();
  };
  const own = <Resource extends AsyncDisposable>(resource: Resource): Resource => {
    owned.push(resource);
    return resource;
  };
  try {
    const { summary } = await tellStory({ folder, terminal, signal, own, report, stopAll, keep });
    if (json) process.stdout.write(`${JSON.stringify(summary)}\n`);
    if (keep && !signal.aborted) await once(signal, 'abort');
    return exitCodes.done;
  } catch (error) {
    if (signal.aborted) return exitCodes.interrupted;
    complain(report, folder, error);
    return exitCodes.failed;
  } finally {
    await stopAll();
  }
};

const main = async (args: readonly string[]): Promise<number> => {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stop.abort());
  try {
    const options = readOptions(args);
    if (options !== undefined) return await run(options, stop.signal);
    process.stdout.write(help);
    return exitCodes.done;
  } catch (error) {
    process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n\n${help}`);
    return exitCodes.wrong;
  }
};

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
