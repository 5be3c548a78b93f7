import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { anchorBytecode } from '../../contracts/anchor/contract.ts';
import { type FinalAnchor, finalAnchors } from '../../contracts/anchor/served.ts';
import { fromBase64, orNothing, sameBytes, textOf, toHex } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import { type BrokerInfo, brokerInfoPath, readBrokerInfo } from '../../contracts/events.ts';
import { parseCanonical, parseJson } from '../../contracts/json.ts';
import { checkEntry, entryParts } from '../../contracts/ledger/entry.ts';
import { followLog, proveEntry } from '../../contracts/ledger/follow.ts';
import { bad, type Checked, check, good } from '../../contracts/ledger/forms.ts';
import { type Policy, readPolicy, readVerifierKey, verifyNote } from '../../contracts/ledger/note.ts';
import { type Genesis, readPublicArtifact } from '../../contracts/ledger/public-entries.ts';
import { type TrustedLog, type TrustFile, trustFile, trustText } from '../../contracts/ledger/receipt.ts';
import type { FetchLogFile } from '../../contracts/ledger/tile-proofs.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { RpcCall } from '../../kernel/http/json-rpc.ts';
import { type Command, type Parsed, required, type Terminal } from '../command.ts';
import { checkedUrl, fetchBytes, nodeRpc } from '../node-rpc.ts';

/** Making a reader's trust file (ledger §11): the log of a broker, checked, and blocks that a node of the reader's confirms. */

const maxFileBytes = 64 << 20;
const maxAnswerBytes = 16 << 20;
const maxBlocks = 100_000;

const untrusted = (detail: string): AppError => new AppError('untrusted', { detail });

/** The value of a check on what was fetched. @throws AppError `untrusted` with the reason. */
const need = <Value>(checked: Checked<Value>, what: string): Value => {
  if (checked.ok) return checked.value;
  throw untrusted(`${what}: ${checked.reason}`);
};

const fetchJson = async (url: URL): Promise<unknown> => {
  const { status, body } = await fetchBytes(url, { maxBytes: maxAnswerBytes });
  if (status !== 200)
    throw new AppError('fetch-failed', { detail: `${url.host} answered ${status} for ${url.pathname}` });
  return parseJson(body, { maxBytes: maxAnswerBytes, maxDepth: 32 });
};

const below = (base: URL, path: string): URL => new URL(`${base.href.replace(/\/$/, '')}/${path}`);

const logFiles =
  (base: URL): FetchLogFile =>
  async (path) => {
    const { status, body } = await fetchBytes(below(base, path), { maxBytes: maxAnswerBytes });
    return status === 200 ? body : undefined;
  };

/** The genesis that entry 0 commits to, under a checkpoint that the log signed. */
const readGenesis = async (fetch: FetchLogFile, policy: Policy): Promise<Checked<Genesis>> => {
  const note = await fetch('checkpoint');
  if (note === undefined) return bad('there is no checkpoint yet');
  const checkpoint = verifyNote(nodeCrypto, textOf(note) ?? '', policy);
  if (!checkpoint.ok) return checkpoint;
  const proven = await proveEntry({ crypto: nodeCrypto, fetch }, 0, checkpoint.value);
  if (!proven.ok) return proven;
  const { digest, spki } = entryParts(proven.value.entry);
  const artifact = await fetch(`artifact/${toHex(digest)}`);
  if (artifact === undefined) return bad('the genesis is not served');
  const parts = checkEntry(nodeCrypto, proven.value.entry, artifact);
  if (!parts.ok) return parts;
  const read = readPublicArtifact(parseCanonical(textOf(artifact) ?? ''));
  if (!read.ok) return bad(`entry 0 ${read.reason}`);
  if (read.value.kind !== 'genesis') return bad('entry 0 is no genesis');
  const isOwn = sameBytes(spki, orNothing(fromBase64(read.value.value.registryKey)));
  return isOwn ? good(read.value.value) : bad('the genesis is not signed by the registry key that it names');
};

/** Whether the log itself made a policy the newest: a later one is an entry of the log too. */
const isNewestPolicy = async (fetch: FetchLogFile, policy: Policy, log: BrokerInfo['log']): Promise<Checked<true>> => {
  const registryKey = orNothing(fromBase64(log.registryKey));
  const followed = await followLog({ crypto: nodeCrypto, fetch, policy, registryKey }, undefined);
  if (!followed.ok) return followed;
  const policies = followed.value.publics.flatMap(({ artifact }) =>
    artifact.kind === 'policy' ? [artifact.value] : [],
  );
  return policies.at(-1)?.policy === log.policy
    ? good(true)
    : bad('the policy is neither that of the genesis nor a later one');
};

/** What a broker says of its log, held against the log itself. */
const checkLog = async ({ log }: BrokerInfo): Promise<TrustedLog> => {
  const { origin, vkey, registryKey, policy: text } = log;
  const key = need(readVerifierKey(nodeCrypto, vkey), 'the key of the log');
  const policy = need(readPolicy(nodeCrypto, text), 'the policy of the log');
  if (key.name !== origin || policy.log.text !== vkey)
    throw untrusted('the broker names two logs, or two keys for one');
  const fetch = logFiles(checkedUrl(log.url, 'the address of the log'));
  const genesis = need(await readGenesis(fetch, policy), `the log ${origin}`);
  if (genesis.origin !== origin || genesis.logKey !== vkey || genesis.registryKey !== registryKey)
    throw untrusted('the genesis of the log names another origin or other keys than the broker');
  if (genesis.policy !== text) need(await isNewestPolicy(fetch, policy, log), `the log ${origin}`);
  return { vkey, registryKey, policy: text };
};

/** A trust file that is there already, or an empty one. */
const readTrust = (path: string): TrustFile => {
  if (!existsSync(path)) return { v: 1, type: 'trust', logs: [], chains: [] };
  const bytes = readFileSync(path);
  const value = bytes.length > maxFileBytes ? undefined : parseCanonical((textOf(bytes) ?? '').trimEnd());
  const read = value === undefined ? bad('is not canonical JSON') : check(trustFile, value);
  if (read.ok) return read.value;
  throw new AppError('invalid-request', { detail: `${path} is there and is no trust file: it ${read.reason}` });
};

const writeTrust = (path: string, trust: TrustFile): void => {
  const whole = check(trustFile, trust);
  if (!whole.ok) throw new AppError('invariant-broken', { detail: whole.reason });
  writeFileSync(`${path}.next`, `${trustText(whole.value)}\n`);
  renameSync(`${path}.next`, path);
};

/** Adds a log; one that is known stays as the reader has it, and another key under its name is refused. */
const withLog = (trust: TrustFile, origin: string, log: TrustedLog): { trust: TrustFile; isNew: boolean } => {
  const known = trust.logs.find(({ vkey }) => vkey.startsWith(`${origin}+`));
  if (known === undefined) return { trust: { ...trust, logs: [...trust.logs, log] }, isNew: true };
  if (known.vkey !== log.vkey || known.registryKey !== log.registryKey)
    throw untrusted(
      `your file has other keys for ${origin}. A changed key is what an attacker would show: ask the operator, and remove the old entry yourself if it is true`,
    );
  return { trust, isNew: false };
};

type Chain = TrustFile['chains'][number];

const withBlocks = (trust: TrustFile, { chainId, contract, blocks }: Chain): TrustFile => {
  const isSame = (chain: Chain) => chain.chainId === chainId && chain.contract === contract;
  const known = trust.chains.find(isSame)?.blocks ?? [];
  const merged = [...new Set([...known, ...blocks])];
  const others = trust.chains.filter((chain) => !isSame(chain));
  return merged.length === 0 ? trust : { ...trust, chains: [...others, { chainId, contract, blocks: merged }] };
};

const quantity = z.string().regex(/^0x(0|[1-9a-f][0-9a-f]{0,15})$/);
const blockHead = z.union([z.object({ number: quantity, hash: z.string().regex(/^0x[0-9a-f]{64}$/) }), z.null()]);

const ask = async <Value>(
  rpc: RpcCall,
  method: string,
  params: (string | boolean)[],
  schema: z.ZodType<Value>,
): Promise<Value> => {
  const answer = await rpc(method, params, schema);
  if (answer.ok) return answer.value;
  throw new AppError('fetch-failed', { detail: `the node refused ${method}: ${answer.message}` });
};

/** A node of the reader's choice: of the right chain, with the contract that this program knows; and how far it is final. */
const checkNode = async (rpc: RpcCall, { chainId, contract }: Omit<Chain, 'blocks'>): Promise<number> => {
  const found = String(Number(await ask(rpc, 'eth_chainId', [], quantity)));
  if (found !== chainId) throw untrusted(`the node is of chain ${found}, the anchors are on chain ${chainId}`);
  const code = await ask(rpc, 'eth_getCode', [contract, 'latest'], z.string().regex(/^0x([0-9a-f]{2})*$/));
  if (code.length < 1_000 || !anchorBytecode.endsWith(code.slice(2)))
    throw untrusted(`what stands at ${contract} is not the anchor contract that this program knows`);
  const final = await ask(rpc, 'eth_getBlockByNumber', ['finalized', false], blockHead);
  return final === null ? -1 : Number(final.number);
};

interface Pinning {
  readonly pinned: readonly FinalAnchor[];
  /** Not final yet as a node of the reader's sees it. */
  readonly early: readonly FinalAnchor[];
}

/** Holds each block that the broker names against every node: final there, and with this hash at its height. */
const confirm = async (
  nodes: readonly RpcCall[],
  chain: Omit<Chain, 'blocks'>,
  anchors: readonly FinalAnchor[],
): Promise<Pinning> => {
  const finals = await Promise.all(nodes.map((rpc) => checkNode(rpc, chain)));
  const least = Math.min(...finals);
  const pinned: FinalAnchor[] = [];
  for (const anchor of anchors.filter(({ blockNumber }) => blockNumber <= least)) {
    for (const rpc of nodes) {
      const height = `0x${anchor.blockNumber.toString(16)}`;
      const found = await ask(rpc, 'eth_getBlockByNumber', [height, false], blockHead);
      if (found?.hash !== anchor.blockHash)
        throw untrusted(
          `block ${anchor.blockNumber} is ${found?.hash ?? 'unknown'} at your node, and ${anchor.blockHash} as the broker says: nothing is pinned`,
        );
    }
    pinned.push(anchor);
  }
  return { pinned, early: anchors.filter(({ blockNumber }) => blockNumber > least) };
};

/** The final anchors that a log names at one contract, of blocks that are not pinned yet. */
const anchorsOf = async (base: URL, { chainId, contract, blocks }: Chain): Promise<FinalAnchor[]> => {
  const known = new Set(blocks);
  const found: FinalAnchor[] = [];
  let page: readonly FinalAnchor[] = [];
  do {
    const before = page.at(-1)?.size;
    const url = below(base, `anchors${before === undefined ? '' : `?before=${before}`}`);
    const next = need(check(finalAnchors, await fetchJson(url)), 'the list of anchors').anchors;
    if (before !== undefined && next.some(({ size }) => size >= before))
      throw untrusted('the list of anchors goes in circles');
    page = next;
    found.push(
      ...page.filter((one) => one.chainId === chainId && one.contract === contract && !known.has(one.blockHash)),
    );
  } while (page.length > 0 && found.length < maxBlocks);
  return found;
};

interface Made extends Pinning {
  readonly trust: TrustFile;
  readonly log: TrustedLog;
  readonly isNew: boolean;
}

const pin = async (
  info: BrokerInfo,
  trust: TrustFile,
  nodes: readonly string[],
): Promise<Pinning & { trust: TrustFile }> => {
  if (nodes.length === 0)
    throw new AppError('invalid-request', {
      detail: '--pin needs --node URL: a node that you trust, not the broker’s',
    });
  const { chain } = info;
  if (chain === null)
    throw new AppError('invalid-request', { detail: 'this broker does not anchor: there is nothing to pin' });
  const { chainId, contract } = chain;
  const known = trust.chains.find((one) => one.chainId === chainId && one.contract === contract)?.blocks ?? [];
  const anchors = await anchorsOf(checkedUrl(info.log.url, 'the address of the log'), {
    chainId,
    contract,
    blocks: known,
  });
  const found = await confirm(nodes.map(nodeRpc), { chainId, contract }, anchors);
  const blocks = found.pinned.map(({ blockHash }) => blockHash);
  return { ...found, trust: withBlocks(trust, { chainId, contract, blocks }) };
};

const make = async (parsed: Parsed, broker: URL, path: string): Promise<Made & { readonly info: BrokerInfo }> => {
  const answer = await fetchJson(new URL(brokerInfoPath, broker));
  const info = need(readBrokerInfo(answer), `what ${broker.host} says of itself`);
  const log = await checkLog(info);
  const { trust, isNew } = withLog(readTrust(path), info.log.origin, log);
  const nodes = parsed.list('node');
  const found = parsed.flag('pin') ? await pin(info, trust, nodes) : { trust, pinned: [], early: [] };
  const whole = parsed.flag('one-sided') ? { ...found.trust, oneSided: true } : found.trust;
  return { ...found, trust: whole, info, log, isNew };
};

const tell = (
  terminal: Terminal,
  made: Made & { readonly info: BrokerInfo },
  where: { broker: URL; path: string },
): void => {
  const { info, log, isNew, pinned, early, trust } = made;
  const { chain } = info;
  terminal.out(`${where.path} trusts:`);
  terminal.out(`  the log ${info.log.origin} of ${info.did}`);
  terminal.out(`    key ${log.vkey}`);
  terminal.out(
    isNew
      ? `    because ${where.broker.host} showed it now, and genesis, checkpoint and broker agree on it. Nothing else vouches for it: compare the key with what the operator tells you in another way.`
      : '    as your file already did: the keys are the same. Your own policy stays.',
  );
  for (const anchor of pinned) {
    terminal.out(`  block ${anchor.blockNumber} ${anchor.blockHash} of chain ${anchor.chainId}`);
    terminal.out(`    because your node calls it final: it holds the anchor of size ${anchor.size}, of ${anchor.time}`);
  }
  for (const { blockNumber } of early) terminal.out(`  not yet block ${blockNumber}: your node does not call it final`);
  const blocks = trust.chains.reduce((sum, one) => sum + one.blocks.length, 0);
  if (blocks === 0 && chain !== null)
    terminal.out('  no block: anchors will be consistent, and count only after: stekker trust --pin --node URL …');
  if (trust.oneSided === true) terminal.out('  receipts that only the provider signed (plain-dsp)');
};

export const trust: Command = {
  name: 'trust',
  summary: 'Make or extend your trust file: the logs and blocks you rely on.',
  usage: '--broker URL --out FILE [--pin --node URL …]',
  about: `Asks a broker for the keys of its log, holds them against the log's own genesis and checkpoint, and writes them into your
trust file; a file that is there is extended, never weakened. With --pin it asks nodes that you choose for the hashes of the
blocks in which the log is anchored: final there, at that height, on that chain. Afterwards stekker verify needs no network.
Exit code: 0 done, 1 something does not hold or cannot be reached, 2 something in the command is wrong.`,
  examples: [
    'stekker trust --broker https://broker.example --out trust.json',
    'stekker trust --broker https://broker.example --out trust.json --pin --node https://my-node.example',
  ],
  options: {
    broker: { type: 'string', value: 'URL', about: 'The broker whose log you want to rely on.' },
    out: { type: 'string', value: 'FILE', about: 'Your trust file.' },
    pin: { type: 'boolean', about: 'Also pin the blocks in which the log is anchored.' },
    node: { type: 'string', value: 'URL', multiple: true, about: 'A node of the chain; several must all agree.' },
    'one-sided': { type: 'boolean', about: 'Accept receipts that only the provider signed (plain-dsp).' },
  },
  run: async (parsed, terminal) => {
    if (parsed.positionals.length > 0)
      throw new AppError('invalid-request', { detail: 'this command takes options only. See: stekker trust --help' });
    const broker = checkedUrl(required(parsed, 'broker', trust), 'the address of the broker');
    const path = required(parsed, 'out', trust);
    const made = await make(parsed, broker, path);
    writeTrust(path, made.trust);
    const { info, log, isNew, pinned, early } = made;
    if (parsed.flag('json'))
      terminal.out(
        JSON.stringify({ file: path, origin: info.log.origin, log, isNew, chain: info.chain, pinned, early }),
      );
    else tell(terminal, made, { broker, path });
    return 0;
  },
};
