import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { manualClock } from './clock.ts';
import { nodeFiles } from './files.ts';
import { type DataFolderOptions, openDataFolder, startRepeating, startService } from './lifecycle.ts';
import { silentLogger } from './log.ts';

const root = mkdtempSync(join(tmpdir(), 'stekker-lifecycle-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const optionsOf = (name: string, program: DataFolderOptions['program'] = 'broker'): DataFolderOptions => ({
  path: join(root, name, 'data'),
  program,
  files: nodeFiles,
});

/** Opens the folder in a process of its own, and leaves it by being killed when `isKilled`. */
const openElsewhere = (path: string, isKilled: boolean): string => {
  const here = import.meta.dirname;
  const code = `
    const { openDataFolder } = await import(${JSON.stringify(join(here, 'lifecycle.ts'))});
    const { nodeFiles } = await import(${JSON.stringify(join(here, 'files.ts'))});
    try {
      await openDataFolder({ path: ${JSON.stringify(path)}, program: 'broker', files: nodeFiles });
      console.log('opened');
    } catch (error) { console.log(error.code); }
    ${isKilled ? "process.kill(process.pid, 'SIGKILL');" : ''}`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' }).stdout.trim();
};

describe('data folder', () => {
  test('is one process’s alone, and free again when it is given back', async () => {
    const options = optionsOf('lock');
    const folder = await openDataFolder(options);
    await expect(openDataFolder(options)).rejects.toMatchObject({ code: 'data-in-use' });
    expect(openElsewhere(options.path, false)).toBe('data-in-use');
    await folder[Symbol.asyncDispose]();
    expect(openElsewhere(options.path, false)).toBe('opened');
  });

  test('is free when the process that had it was killed', async () => {
    const options = optionsOf('killed');
    expect(openElsewhere(options.path, true)).toBe('opened');
    await (await openDataFolder(options))[Symbol.asyncDispose]();
  });

  test('of a newer version, of another program or with a damaged mark is not opened', async () => {
    const options = optionsOf('mark');
    await (await openDataFolder(options))[Symbol.asyncDispose]();
    await expect(openDataFolder({ ...options, program: 'connector' })).rejects.toMatchObject({
      code: 'config-invalid',
      detail: expect.stringContaining('belongs to a broker'),
    });
    const place = join(options.path, 'stekker.json');
    expect(JSON.parse(readFileSync(place, 'utf8'))).toEqual({ format: 1, program: 'broker' });
    writeFileSync(place, '{"format":2,"program":"broker"}');
    await expect(openDataFolder(options)).rejects.toMatchObject({ code: 'data-newer' });
    writeFileSync(place, '{"format":');
    await expect(openDataFolder(options)).rejects.toMatchObject({ code: 'data-damaged' });
    writeFileSync(place, '{"format":1,"program":"broker"}');
    await (await openDataFolder(options))[Symbol.asyncDispose]();
  });

  test('that cannot be made is a wrong setting', async () => {
    writeFileSync(join(root, 'file'), '');
    const options = { ...optionsOf('x'), path: join(root, 'file', 'data') };
    await expect(openDataFolder(options)).rejects.toMatchObject({ code: 'config-invalid' });
  });

  test('that cannot be written in is a wrong setting', async () => {
    const options = optionsOf('unwritable');
    mkdirSync(join(options.path, 'lock'), { recursive: true });
    await expect(openDataFolder(options)).rejects.toMatchObject({
      code: 'config-invalid',
      detail: `this process may not write in the data folder ${options.path}`,
    });
  });
});

const part = (name: string, done: string[], fault?: Error) => ({
  name,
  [Symbol.asyncDispose]: async () => {
    done.push(name);
    if (fault !== undefined) throw fault;
  },
});

describe('a service', () => {
  test('releases its parts in reverse order, once, also when one of them fails', async () => {
    const done: string[] = [];
    const service = await startService({ log: silentLogger, signal: new AbortController().signal }, async (own) => {
      own(part('first', done));
      own(part('second', done, new Error('broken')));
      return { third: own(part('third', done)).name };
    });
    expect(service.third).toBe('third');
    await Promise.all([service[Symbol.asyncDispose](), service[Symbol.asyncDispose]()]);
    await service.stopped;
    expect(done).toEqual(['third', 'second', 'first']);
  });

  test('stops when its signal aborts, also while it starts', async () => {
    const done: string[] = [];
    const stop = new AbortController();
    const build = async (own: <Part extends AsyncDisposable>(one: Part) => Part) => ({ a: own(part('a', done)) });
    const service = await startService({ log: silentLogger, signal: stop.signal }, build);
    stop.abort();
    await service.stopped;
    const late = await startService({ log: silentLogger, signal: stop.signal }, build);
    await late.stopped;
    expect(done).toEqual(['a', 'a']);
  });

  test('stops when a part fails for good, also while it starts', async () => {
    const done: string[] = [];
    const signal = new AbortController().signal;
    let fail = (_fault: unknown): void => undefined;
    const service = await startService({ log: silentLogger, signal }, async (own, failing) => {
      fail = failing;
      return { a: own(part('a', done)) };
    });
    expect(done).toEqual([]);
    fail(new Error('the disk is gone'));
    await service.stopped;
    const late = await startService({ log: silentLogger, signal }, async (own, failing) => {
      failing(new Error('the disk is gone'));
      return { b: own(part('b', done)) };
    });
    await late.stopped;
    expect(done).toEqual(['a', 'b']);
  });

  test('that cannot be built gives back what it had', async () => {
    const done: string[] = [];
    const building = startService({ log: silentLogger, signal: new AbortController().signal }, async (own) => {
      own(part('first', done));
      own(part('second', done));
      throw new Error('no third');
    });
    await expect(building).rejects.toThrow('no third');
    expect(done).toEqual(['second', 'first']);
  });
});

describe('repeated work', () => {
  test('begins at once, goes on after a failure, and ends with the service', async () => {
    const clock = manualClock(0);
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    let rounds = 0;
    const work = async () => {
      rounds += 1;
      if (rounds === 1) throw new Error('broken');
    };
    const repeating = startRepeating({ everyMs: 10, work, clock, log: silentLogger });
    expect(rounds).toBe(1);
    for (let round = 0; round < 3; round += 1) {
      await turn();
      clock.advance(10);
      await turn();
    }
    await repeating[Symbol.asyncDispose]();
    clock.advance(10);
    expect(rounds).toBe(4);
  });
});
