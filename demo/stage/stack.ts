import { z } from 'zod';
import { type Chain, type StageOptions, startChain } from './chain.ts';
import { type Operator, stekker } from './cli.ts';
import { freePorts, type Running, root, startProcess } from './processes.ts';
import { startTap, type Tap } from './tap.ts';

/** Every service of the data space, each a process of its own on `localhost`, with development settings. */

export interface Service {
  readonly name: string;
  /** Name shown to people. */
  readonly title: string;
  readonly did: string;
  readonly url: string;
  readonly managementUrl: string;
  readonly tokenFile: string;
  readonly operator: Operator;
  readonly running: Running;
}

export interface Connector extends Service {
  readonly gatewayUrl: string;
}

export const holderNames = ['places', 'borders', 'water'] as const;
export type HolderName = (typeof holderNames)[number];

export interface Holder extends Connector {
  readonly name: HolderName;
  readonly sourceUrl: string;
}

export interface Stack {
  readonly chain: Chain | undefined;
  readonly broker: Service;
  readonly accreditor: Service;
  readonly holders: Readonly<Record<HolderName, Holder>>;
  readonly runtime: Connector;
  /** Somebody on the line before the data plane of the places register. */
  readonly tap: Tap;
  /** File with the key that the source of the water authority asks for. */
  readonly sourceKeyFile: string;
  /** Everything that was started, in order. */
  readonly processes: readonly Running[];
}

export const sourceKeyHeader = 'x-api-key';

const titles: Readonly<Record<string, string>> = {
  broker: 'Makelaar Voorbeeld',
  accreditor: 'Keurmeester Voorbeeld',
  places: 'Plaatsenregister Voorbeeld',
  borders: 'Grenzendienst Voorbeeld',
  water: 'Waterschap Voorbeeld (synthetisch)',
  runtime: 'Veiligheidsregio Voorbeeld',
};

const development = { STEKKER_MODE: 'development', STEKKER_ALLOW_LOOPBACK_HTTP: 'true' };

const didOf = (url: string): string => `did:web:${new URL(url).host.replace(':', '%3A')}`;

/** Ports of one service; the two of the operator and of own applications are on loopback anyway. */
interface Ports {
  readonly public: number;
  readonly management: number;
  readonly data: number;
  readonly gateway: number;
}

interface Making extends StageOptions {
  readonly processes: Running[];
  readonly brokerUrl: string;
  readonly accreditorUrl: string;
}

const startService = async (
  { folder, signal, own, processes }: Making,
  its: {
    readonly name: string;
    readonly command: 'broker' | 'connector';
    readonly ports: Ports;
    readonly env: Readonly<Record<string, string>>;
  },
): Promise<Service> => {
  const { name, command, ports, env } = its;
  const title = titles[name] ?? name;
  const url = `http://localhost:${ports.public}`;
  const managementUrl = `http://127.0.0.1:${ports.management}`;
  const tokenFile = folder.secret(`${name}.token`);
  const [node, program] = stekker;
  const running = own(
    await startProcess({
      name,
      command: node,
      args: [program, command],
      logs: folder.logs,
      ready: /^\{"ready":/m,
      signal,
      env: {
        ...development,
        STEKKER_NAME: title,
        STEKKER_DATA: folder.at(name),
        STEKKER_PUBLIC_URL: url,
        STEKKER_PUBLIC_HOST: '127.0.0.1',
        STEKKER_PUBLIC_PORT: String(ports.public),
        STEKKER_MANAGEMENT_PORT: String(ports.management),
        STEKKER_PASSPHRASE_FILE: folder.secret(`${name}.passphrase`),
        STEKKER_MANAGEMENT_TOKEN_FILE: tokenFile,
        ...env,
      },
    }),
  );
  processes.push(running);
  const operatorEnv = { STEKKER_MANAGEMENT_URL: managementUrl, STEKKER_MANAGEMENT_TOKEN_FILE: tokenFile };
  return {
    name,
    title,
    did: didOf(url),
    url,
    managementUrl,
    tokenFile,
    operator: { who: name, env: operatorEnv },
    running,
  };
};

const startConnector = async (
  making: Making,
  name: string,
  ports: Ports,
  dataUrl = `http://localhost:${ports.data}`,
): Promise<Connector> => {
  const service = await startService(making, {
    name,
    command: 'connector',
    ports,
    env: {
      STEKKER_DATA_URL: dataUrl,
      STEKKER_DATA_HOST: '127.0.0.1',
      STEKKER_DATA_PORT: String(ports.data),
      STEKKER_GATEWAY_PORT: String(ports.gateway),
      STEKKER_BROKER_URL: making.brokerUrl,
      STEKKER_ACCREDITORS: didOf(making.accreditorUrl),
    },
  });
  return { ...service, gatewayUrl: `http://127.0.0.1:${ports.gateway}` };
};

const started = z.looseObject({ port: z.number() });

const startSource = async (
  { folder, signal, own, processes }: Making,
  name: HolderName,
  env: Readonly<Record<string, string>>,
): Promise<string> => {
  const running = own(
    await startProcess({
      name: `source-${name}`,
      command: process.execPath,
      args: [`${root}/demo/sources/main.ts`, name],
      env,
      logs: folder.logs,
      ready: /"port"/,
      signal,
    }),
  );
  processes.push(running);
  return `http://localhost:${started.parse(JSON.parse(running.output())).port}`;
};

const startHolder = async (
  making: Making,
  name: HolderName,
  its: { readonly ports: Ports; readonly dataUrl?: string; readonly sourceEnv?: Readonly<Record<string, string>> },
): Promise<Holder> => {
  const { ports, dataUrl, sourceEnv = {} } = its;
  const sourceUrl = await startSource(making, name, sourceEnv);
  return { ...(await startConnector(making, name, ports, dataUrl)), name, sourceUrl };
};

const perService = 4;

const portsFor = async (count: number): Promise<(index: number) => Ports> => {
  const ports = await freePorts(count * perService);
  const port = (index: number) => {
    const found = ports[index];
    if (found === undefined) throw new Error('too few ports were asked for');
    return found;
  };
  return (index) => {
    const first = index * perService;
    return { public: port(first), management: port(first + 1), data: port(first + 2), gateway: port(first + 3) };
  };
};

const startHub = async (making: Making, ports: Ports, chain: Chain | undefined): Promise<Service> =>
  startService(making, {
    name: 'broker',
    command: 'broker',
    ports,
    env: {
      STEKKER_INTENT_FOLDER: making.folder.at('broker-intent'),
      STEKKER_ACCREDITORS: didOf(making.accreditorUrl),
      STEKKER_CHECKPOINT_MS: '250',
      ...(chain === undefined
        ? {}
        : {
            STEKKER_ANCHOR_RPC: chain.url,
            STEKKER_ANCHOR_CHAIN_ID: chain.chainId,
            STEKKER_ANCHOR_CONTRACT: chain.contract,
            STEKKER_ANCHOR_KEY_FILE: chain.keyFile,
            STEKKER_ANCHOR_SECONDS: '1',
          }),
    },
  });

const brokerInfo = z.looseObject({ log: z.looseObject({ origin: z.string() }) });
const registered = z.looseObject({ transaction: z.string() });

/** The log gets its owner on the chain once its name is known. */
const registerLog = async ({ terminal, signal }: StageOptions, broker: Service, chain: Chain): Promise<void> => {
  const response = await fetch(`${broker.url}/.well-known/stekker-broker`, { signal });
  const { log } = brokerInfo.parse(await response.json());
  const args = ['anchor', 'register', '--node', chain.url, '--contract', chain.contract, '--origin', log.origin];
  await terminal.run(chain.operator, args, registered);
};

/** All of them, or the first failure: then the others are waited for, so that nothing starts behind whoever stops everything. */
const allOrNone = async <Parts extends readonly Promise<unknown>[]>(parts: Parts) => {
  await Promise.allSettled(parts);
  return Promise.all(parts);
};

/** Starts everything, the broker first. What was started is owned by `own`, also when a later one fails. */
export const startStack = async (options: StageOptions): Promise<Stack> => {
  const { folder, own } = options;
  const portsOf = await portsFor(7);
  const urlOf = (index: number) => `http://localhost:${portsOf(index).public}`;
  const making: Making = { ...options, processes: [], brokerUrl: urlOf(0), accreditorUrl: urlOf(1) };
  const chain = await startChain(options);
  const broker = await startHub(making, portsOf(0), chain);
  if (chain !== undefined) await registerLog(options, broker, chain);
  // The seventh set lends the port of the one on the line.
  const tapPort = portsOf(6).data;
  const tap = await startTap(tapPort, portsOf(2).data);
  own({ [Symbol.asyncDispose]: tap.close });
  const sourceKeyFile = folder.secret('water-source.key');
  const accreditorEnv = { STEKKER_ROLE: 'accreditor', STEKKER_BROKER_URL: making.brokerUrl };
  const [accreditor, places, borders, water, runtime] = await allOrNone([
    startService(making, { name: 'accreditor', command: 'broker', ports: portsOf(1), env: accreditorEnv }),
    startHolder(making, 'places', { ports: portsOf(2), dataUrl: `http://localhost:${tapPort}` }),
    startHolder(making, 'borders', { ports: portsOf(3) }),
    startHolder(making, 'water', { ports: portsOf(4), sourceEnv: { DEMO_SOURCE_KEY_FILE: sourceKeyFile } }),
    startConnector(making, 'runtime', portsOf(5)),
  ] as const);
  const { processes } = making;
  return { chain, broker, accreditor, holders: { places, borders, water }, runtime, tap, sourceKeyFile, processes };
};
