import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import { type Json, parseJson } from '../../contracts/json.ts';
import { type Command, numberOf, type Parsed, type Terminal } from '../command.ts';
import { connect, connectorPort, problemError, secretIn } from '../management.ts';
import { plain } from '../text.ts';

const acquired = z.looseObject({
  provider: z.string(),
  dataset: z.string(),
  agreementId: z.string(),
  agreementDigest: z.string(),
  transfer: z.string(),
  dataUrl: z.string(),
  reused: z.boolean(),
});
type Acquired = z.output<typeof acquired>;

/** The key of the application: from a file or the environment, never from an argument, which others could see. */
const applicationKey = (parsed: Parsed, env: NodeJS.ProcessEnv): string => {
  const file = parsed.text('key-file') ?? env.STEKKER_APPLICATION_KEY_FILE;
  const key = file === undefined ? env.STEKKER_APPLICATION_KEY : secretIn(file);
  if (key === undefined || key === '') {
    const detail =
      'the key of an application is needed, in STEKKER_APPLICATION_KEY, STEKKER_APPLICATION_KEY_FILE or --key-file; make one with: stekker application add ID@VERSION';
    throw new AppError('config-invalid', { detail });
  }
  return key;
};

/** A JSON file of the owner's. */
const jsonIn = (path: string): Json => {
  try {
    return parseJson(readFileSync(path));
  } catch (cause) {
    throw new AppError('invalid-request', { detail: `${path} is no JSON file that can be read`, cause });
  }
};

const definedOf = (members: Readonly<Record<string, Json | undefined>>) =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));

/** The gateway's address of a path below the dataset; a path cannot lead out of it. */
const addressOf = (dataUrl: string, path: string | undefined): string => {
  const url = new URL((path ?? '').replace(/^\/+/, ''), dataUrl);
  if (!url.href.startsWith(dataUrl))
    throw new AppError('invalid-request', { detail: `${path} is not a path below the dataset` });
  return url.href;
};

const unreachable = (url: string) => (cause: unknown) => {
  throw new AppError('fetch-failed', { detail: `the gateway at ${new URL(url).origin} does not answer`, cause });
};

const request = async (url: string, key: string, parsed: Parsed, signal: AbortSignal): Promise<Response> => {
  const headers = definedOf({ 'stekker-purpose': parsed.text('purpose'), 'stekker-run': parsed.text('run') });
  const answer = await fetch(url, {
    headers: { ...headers, authorization: `Bearer ${key}` },
    redirect: 'manual',
    signal,
  }).catch(unreachable(url));
  if (answer.status < 200 || answer.status > 299) throw problemError(answer.status, await answer.text());
  return answer;
};

interface Sink {
  readonly write: (bytes: Uint8Array) => Promise<void>;
  /** The bytes count only when all of them came. */
  readonly finish: () => Promise<void>;
  readonly drop: () => Promise<void>;
}

const fileSink = async (path: string): Promise<Sink> => {
  const part = `${path}.part`;
  const file = await open(part, 'w').catch((cause: unknown) => {
    throw new AppError('invalid-request', { detail: `${path} cannot be written`, cause });
  });
  return {
    write: async (bytes) => void (await file.write(bytes)),
    finish: async () => {
      await file.sync();
      await file.close();
      await rename(part, path);
    },
    drop: async () => {
      await file.close();
      await rm(part, { force: true });
    },
  };
};

const terminalSink = ({ write, out }: Terminal): Sink => {
  const decoder = new TextDecoder();
  return {
    write: write ?? (async (bytes) => out(decoder.decode(bytes, { stream: true }))),
    finish: async () => undefined,
    drop: async () => undefined,
  };
};

/** Streams a body into a sink, hashing it on the way. */
const drain = async (answer: Response, sink: Sink): Promise<{ readonly bytes: number; readonly sha256: string }> => {
  const digest = createHash('sha256');
  let bytes = 0;
  try {
    for await (const chunk of answer.body ?? []) {
      digest.update(chunk);
      bytes += chunk.length;
      await sink.write(chunk);
    }
    await sink.finish();
  } catch (cause) {
    await sink.drop();
    if (cause instanceof AppError) throw cause;
    throw new AppError('fetch-failed', { detail: `the body broke off after ${bytes} bytes; nothing was kept`, cause });
  }
  return { bytes, sha256: digest.digest('hex') };
};

const acquire = (parsed: Parsed, terminal: Terminal, dataset: string): Promise<Acquired> => {
  const mandate = parsed.text('mandate');
  const timeoutSeconds = numberOf(parsed, 'timeout', { min: 1, max: 55, fallback: 30 });
  const wish = definedOf({
    dataset,
    timeoutSeconds,
    provider: parsed.text('provider'),
    offer: parsed.text('offer'),
    purpose: parsed.text('purpose'),
    application: parsed.text('application'),
    mandate: mandate === undefined ? undefined : jsonIn(mandate),
    push: parsed.flag('push') ? true : undefined,
  });
  return connect(terminal.env, connectorPort).post('/v1/acquisitions', wish, acquired);
};

interface Wanted {
  readonly dataset: string;
  readonly path: string | undefined;
  readonly out: string | undefined;
}

/** The provider brings the whole dataset to our connector; from there it goes where it is wanted. */
const fetchPushed = async (parsed: Parsed, terminal: Terminal, { dataset, path, out }: Wanted): Promise<number> => {
  if (path !== undefined)
    throw new AppError('invalid-request', { detail: 'a push brings the whole dataset: it takes no PATH' });
  const { provider, agreementId, agreementDigest, transfer, reused } = await acquire(parsed, terminal, dataset);
  const management = connect(terminal.env, connectorPort);
  const answer = await management.stream(`/v1/transfers/${encodeURIComponent(transfer)}/content`, terminal.signal);
  const { bytes, sha256 } = await drain(answer, out === undefined ? terminalSink(terminal) : await fileSink(out));
  const told = { bytes, sha256, out, provider, dataset, agreementId, agreementDigest, transfer, reused };
  if (parsed.flag('json')) terminal.out(JSON.stringify(told));
  else terminal.err(plain(`${bytes} bytes were pushed under ${agreementId}; transfer ${transfer}`));
  return 0;
};

/** Negotiates if needed, then gets the data through the own gateway. */
export const fetchData: Command = {
  name: 'fetch',
  summary: 'Get data: negotiate if needed, then fetch through the gateway.',
  usage: 'DATASET [PATH] [--purpose IRI] [--out FILE]',
  about: `Uses the agreement that is in force, or negotiates one; then fetches PATH below the dataset through this connector's own
gateway, which proves who asks, records the access and counts it. The bytes go to standard output, or to FILE when all of them came.
With --push the provider brings the whole dataset here instead, for offers that are plain-dsp; no application takes part.
The application is known by its key: STEKKER_APPLICATION_KEY, STEKKER_APPLICATION_KEY_FILE or --key-file.
Next: prove it with: stekker receipt REQUEST (the request id is printed on standard error)`,
  examples: [
    'stekker fetch urn:voorbeeld:waterstand --purpose urn:stekker:1:purpose:crisis --out levels.json',
    'stekker fetch urn:voorbeeld:plaatsen collections/places/items?limit=100 --provider did:web:register.example',
  ],
  options: {
    purpose: { type: 'string', value: 'IRI', about: 'What it is used for; policies may ask.' },
    application: { type: 'string', value: 'ID@VERSION', about: 'The application, for choosing the offer that fits.' },
    'key-file': { type: 'string', value: 'FILE', about: 'File with the key of the application.' },
    run: { type: 'string', value: 'ID', about: 'Run that this access belongs to.' },
    provider: { type: 'string', value: 'DID', about: 'Who offers it; by default the store says.' },
    offer: { type: 'string', value: 'ID', about: 'The offer to ask for; by default the one that fits best.' },
    push: { type: 'boolean', about: 'Have the provider bring all of it (plain-dsp), instead of asking for it.' },
    mandate: {
      type: 'string',
      value: 'FILE',
      about: 'What may be agreed to when the provider offers something else: JSON with least and prices.',
    },
    out: { type: 'string', value: 'FILE', about: 'Where the bytes go.' },
    timeout: { type: 'string', value: 'SECONDS', about: 'Patience for negotiation and start; default 30.' },
  },
  run: async (parsed, terminal) => {
    const [dataset, path, ...more] = parsed.positionals;
    const out = parsed.text('out');
    if (dataset === undefined || more.length > 0)
      throw new AppError('invalid-request', { detail: 'a DATASET, and at most one PATH. See: stekker fetch --help' });
    if (parsed.flag('json') && out === undefined)
      throw new AppError('invalid-request', {
        detail: '--json needs --out FILE, because the bytes go to standard output',
      });
    if (parsed.flag('push')) return fetchPushed(parsed, terminal, { dataset, path, out });
    const key = applicationKey(parsed, terminal.env);
    const got = await acquire(parsed, terminal, dataset);
    const answer = await request(addressOf(got.dataUrl, path), key, parsed, terminal.signal);
    const { bytes, sha256 } = await drain(answer, out === undefined ? terminalSink(terminal) : await fileSink(out));
    const requestId = answer.headers.get('stekker-request') ?? '';
    if (parsed.flag('json')) {
      const { provider, agreementId, agreementDigest, transfer, reused } = got;
      const { status } = answer;
      terminal.out(
        JSON.stringify({
          request: requestId,
          status,
          bytes,
          sha256,
          out,
          provider,
          dataset,
          agreementId,
          agreementDigest,
          transfer,
          reused,
        }),
      );
    } else terminal.err(plain(`${bytes} bytes under ${got.agreementId}; request ${requestId}`));
    return 0;
  },
};
