import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { createAccount } from '../../broker/adapters/evm/account.ts';
import { createEvmChain } from '../../broker/adapters/evm/chain.ts';
import { deployAnchor, type OperatorTools, registerLog } from '../../broker/adapters/evm/deploy.ts';
import { defaultLeastTip } from '../../broker/anchoring/rules.ts';
import { AppError } from '../../contracts/errors.ts';
import { systemClock } from '../../kernel/clock.ts';
import { type Command, type Parsed, required, type Terminal } from '../command.ts';
import { nodeRpc } from '../node-rpc.ts';

const weiPerGwei = 1_000_000_000n;
const transactionMs = 180_000;
/** Two days: who gets hold of the admin's key can be seen before the contract has another admin. */
const defaultDelaySeconds = 172_800;

/** The key comes from the environment or a file: a command line is seen by others and kept in histories. */
const readKey = ({ env }: Terminal): string => {
  const file = env.STEKKER_ANCHOR_KEY_FILE;
  const key = env.STEKKER_ANCHOR_KEY ?? (file === undefined ? undefined : readFileSync(file, 'utf8').trim());
  if (key === undefined || key === '')
    throw new AppError('config-invalid', {
      detail: 'STEKKER_ANCHOR_KEY or STEKKER_ANCHOR_KEY_FILE must hold the private key of the account that pays',
    });
  return key;
};

const addressOf = (text: string, name: string): string => {
  if (!/^0x[0-9a-fA-F]{40}$/.test(text)) throw new AppError('invalid-request', { detail: `--${name} is no address` });
  return text.toLowerCase();
};

const numberOf = (parsed: Parsed, name: string, fallback: number): number => {
  const text = parsed.text(name);
  if (text === undefined) return fallback;
  if (!/^(0|[1-9]\d{0,11})$/.test(text))
    throw new AppError('invalid-request', { detail: `--${name} is no whole number` });
  return Number(text);
};

const chainIdOf = async (parsed: Parsed, rpc: OperatorTools['rpc']): Promise<string> => {
  const answer = await rpc('eth_chainId', [], z.string().regex(/^0x[0-9a-f]{1,13}$/));
  if (!answer.ok) throw new AppError('fetch-failed', { detail: `the node tells no chain id: ${answer.message}` });
  const chainId = String(Number(answer.value));
  const wanted = parsed.text('chain-id');
  if (wanted !== undefined && wanted !== chainId)
    throw new AppError('invalid-request', { detail: `the node is of chain ${chainId}, not of ${wanted}` });
  return chainId;
};

const operatorOf = async (
  parsed: Parsed,
  terminal: Terminal,
): Promise<OperatorTools & { readonly chainId: string }> => {
  const rpc = nodeRpc(required(parsed, 'node', anchor));
  const chainId = await chainIdOf(parsed, rpc);
  return {
    rpc,
    chainId,
    account: await createAccount({ rpc, chainId, key: readKey(terminal) }),
    clock: systemClock,
    feeCeiling: BigInt(numberOf(parsed, 'max-fee', 50)) * weiPerGwei,
    leastTip: defaultLeastTip,
    timeoutMs: transactionMs,
  };
};

const print = (parsed: Parsed, terminal: Terminal, value: object, lines: readonly string[]): void => {
  if (parsed.flag('json')) terminal.out(JSON.stringify(value));
  else for (const line of lines) terminal.out(line);
};

const deploy = async (parsed: Parsed, terminal: Terminal): Promise<void> => {
  const tools = await operatorOf(parsed, terminal);
  const admin = addressOf(parsed.text('admin') ?? tools.account.address, 'admin');
  const made = await deployAnchor(tools, { admin, delaySeconds: numberOf(parsed, 'delay', defaultDelaySeconds) });
  const { chainId } = tools;
  print(parsed, terminal, { chainId, admin, ...made }, [
    `The anchor contract is ${made.contract} on chain ${chainId}, its admin ${admin}.`,
    `  transaction ${made.transaction}, ${made.gasUsed} gas`,
    `Next: stekker anchor register --node URL --contract ${made.contract} --origin ORIGIN`,
  ]);
};

const register = async (parsed: Parsed, terminal: Terminal): Promise<void> => {
  const tools = await operatorOf(parsed, terminal);
  const contract = addressOf(required(parsed, 'contract', anchor), 'contract');
  const origin = required(parsed, 'origin', anchor);
  const owner = addressOf(parsed.text('owner') ?? tools.account.address, 'owner');
  const made = await registerLog(tools, { contract, origin, owner });
  const { chainId } = tools;
  print(parsed, terminal, { chainId, contract, origin, owner, transaction: made.transaction, gasUsed: made.gasUsed }, [
    `The log ${origin} belongs to ${owner} at ${contract} on chain ${chainId}, for ever.`,
    `  transaction ${made.transaction}, ${made.gasUsed} gas`,
    `Next: start the broker with STEKKER_ANCHOR_CONTRACT=${contract} and the key of ${owner} in STEKKER_ANCHOR_KEY.`,
  ]);
};

const show = async (parsed: Parsed, terminal: Terminal): Promise<void> => {
  const rpc = nodeRpc(required(parsed, 'node', anchor));
  const contract = addressOf(required(parsed, 'contract', anchor), 'contract');
  const origin = required(parsed, 'origin', anchor);
  const chainId = await chainIdOf(parsed, rpc);
  const head = await (await createEvmChain({ rpc, contract })).head(origin);
  print(parsed, terminal, { chainId, contract, origin, ...head }, [
    `${origin} at ${contract} on chain ${chainId}${head.closed ? ', closed' : ''}`,
    `  size ${head.size}, root ${head.root}, block ${head.blockNumber}, owner ${head.owner}`,
  ]);
};

const verbs: Readonly<Record<string, (parsed: Parsed, terminal: Terminal) => Promise<void>>> = {
  deploy,
  register,
  head: show,
};

/** What an operator does once before a broker can anchor, and a look at what the contract holds. */
export const anchor: Command = {
  name: 'anchor',
  summary: 'Put the anchor contract on a chain, and a log in it.',
  usage: 'deploy|register|head --node URL [--contract ADDRESS --origin ORIGIN]',
  about: `Anchoring is an extra proof and optional. deploy puts the contract on the chain; register gives a log its owner there,
once and for ever; head shows what is anchored. The key of the account that pays is read from STEKKER_ANCHOR_KEY or
STEKKER_ANCHOR_KEY_FILE. The account should belong to the organisation: an address can be personal data.
Exit code: 0 done, 1 the chain did not take it, 2 something in the command is wrong.`,
  examples: [
    'stekker anchor deploy --node https://node.example --chain-id 1',
    'stekker anchor register --node https://node.example --contract 0x5fbd… --origin broker.example/log/2026',
    'stekker anchor head --node https://node.example --contract 0x5fbd… --origin broker.example/log/2026',
  ],
  options: {
    node: { type: 'string', value: 'URL', about: 'JSON-RPC address of a node of the chain.' },
    'chain-id': { type: 'string', value: 'N', about: 'The chain that the node must be of.' },
    contract: { type: 'string', value: 'ADDRESS', about: 'The anchor contract.' },
    origin: { type: 'string', value: 'ORIGIN', about: 'Name of the log: broker.example/log/2026.' },
    owner: { type: 'string', value: 'ADDRESS', about: 'Who anchors it; default: the account that pays.' },
    admin: { type: 'string', value: 'ADDRESS', about: 'deploy: who has all roles; default: the account that pays.' },
    delay: { type: 'string', value: 'SECONDS', about: 'deploy: how long a change of admin waits; default 172800.' },
    'max-fee': { type: 'string', value: 'GWEI', about: 'Most that is paid for a unit of gas; default 50.' },
  },
  run: async (parsed, terminal) => {
    const verb = verbs[parsed.positionals[0] ?? ''];
    if (verb === undefined || parsed.positionals.length !== 1)
      throw new AppError('invalid-request', {
        detail: 'deploy, register or head is needed. See: stekker anchor --help',
      });
    await verb(parsed, terminal);
    return 0;
  },
};
