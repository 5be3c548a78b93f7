import { mkdirSync } from 'node:fs';
import { z } from 'zod';
import { finalAnchors } from '../../contracts/anchor/served.ts';
import { readNote } from '../../contracts/ledger/note.ts';
import { type PackedReceipts, packedReceipts } from '../../contracts/ledger/receipt.ts';
import { readStatementArtifact, type UsageStatement } from '../../contracts/ledger/statement.ts';
import { ask, askJson } from './http.ts';
import type { Agreements } from './market.ts';
import { eventually } from './processes.ts';
import { operate, type Scene } from './scene.ts';
import { type HolderName, holderNames } from './stack.ts';

/** Agreements end, the last statements close them, and everything that proves what happened is written to files. */

export interface Anchor {
  readonly size: number;
  readonly chainId: string;
  readonly contract: string;
  readonly transaction: string;
  readonly blockNumber: number;
  readonly blockHash: string;
}

export interface Evidence {
  /** Accesses as the data holders counted them. */
  readonly accesses: number;
  readonly anchors: readonly Anchor[];
  readonly receiptFiles: readonly string[];
  readonly trustFile: string;
}

const ended = z.looseObject({ status: z.literal('ended') });

/** The data holders end their agreements: what was used stays proven and stays owed. */
const endAll = async ({ terminal, stack }: Scene, agreements: Agreements): Promise<void> => {
  await Promise.all(
    holderNames.map((name) => {
      const args = ['end', agreements[name].agreementId, '--reason', 'the exercise is over'];
      return terminal.run(stack.holders[name].operator, args, ended);
    }),
  );
};

const packed = z.looseObject({ items: z.array(z.string()) });

/** The statements of a file of receipts. */
export const statementOf = ({ statement }: PackedReceipts): UsageStatement => {
  const read = readStatementArtifact(statement.artifact);
  if (!read.ok) throw new Error(`a receipt without a statement: ${read.reason}`);
  return read.value.value;
};

/** The receipts of an agreement once its last statement is signed by both and stands in the log. */
const finalReceipts = (scene: Scene, name: HolderName, agreementId: string): Promise<readonly PackedReceipts[]> =>
  eventually(
    async () => {
      const path = `/v1/receipts?agreement=${encodeURIComponent(agreementId)}`;
      const answer = await operate(scene.stack.holders[name], path, scene).catch((error: unknown) => {
        if (String(error).includes(':not-yet')) return undefined;
        throw error;
      });
      if (answer === undefined) return undefined;
      const all = packed.parse(answer).items.map((text) => packedReceipts.parse(JSON.parse(text)));
      return all.some((one) => statementOf(one).final) ? all : undefined;
    },
    { what: `the last statement of ${name}`, signal: scene.signal },
  );

const brokerInfo = z.looseObject({ log: z.looseObject({ url: z.string() }) });

const logUrlOf = async ({ stack, signal }: Scene): Promise<string> =>
  brokerInfo.parse(await askJson(`${stack.broker.url}/.well-known/stekker-broker`, { signal })).log.url;

/** Waits until a final block of the chain covers the newest entry that a receipt rests on. */
const awaitAnchor = async (scene: Scene, receipts: readonly PackedReceipts[]): Promise<void> => {
  const { stack, signal, report } = scene;
  const { chain } = stack;
  if (chain === undefined) {
    report.say('There is no anvil for this machine, so nothing is anchored; everything else goes on.');
    return;
  }
  const url = await logUrlOf(scene);
  const indexes = receipts.flatMap(({ statement, agreement }) => [statement.proof.index, agreement.proof.index]);
  const covers = Math.max(...indexes.map(Number));
  await eventually(
    async () => {
      await chain.mine();
      const { status } = await ask(`${url}/anchors/newest?covers=${covers}`, { signal });
      return status === 200 ? true : undefined;
    },
    { what: `an anchor that covers entry ${covers}`, signal },
  );
};

const usage = z.looseObject({ lines: z.array(z.looseObject({ role: z.string(), accesses: z.number() })) });

/** What each data holder sees of its own use. */
const countAccesses = async ({ terminal, stack }: Scene): Promise<number> => {
  const all = await Promise.all(
    holderNames.map((name) => terminal.run(stack.holders[name].operator, ['usage'], usage)),
  );
  return all
    .flatMap(({ lines }) => lines)
    .filter(({ role }) => role === 'provider')
    .reduce((sum, { accesses }) => sum + accesses, 0);
};

const written = z.looseObject({ files: z.array(z.string()).min(1) });

const writeReceipts = async (
  { folder, terminal, stack }: Scene,
  agreements: Agreements,
): Promise<readonly string[]> => {
  mkdirSync(folder.at('receipts'), { recursive: true });
  const one = (name: HolderName) => {
    const args = ['receipt', '--agreement', agreements[name].agreementId, '--out', folder.at('receipts', name)];
    return terminal.run(stack.holders[name].operator, args, written);
  };
  return (await Promise.all(holderNames.map(one))).flatMap(({ files }) => files);
};

/** The auditor asks the broker for its log, and a node of its own which blocks count. */
const makeTrust = async ({ folder, terminal, stack }: Scene): Promise<string> => {
  const file = folder.at('trust.json');
  const pin = stack.chain === undefined ? [] : ['--pin', '--node', stack.chain.url];
  const args = ['trust', '--broker', stack.broker.url, '--out', file, ...pin];
  await terminal.run({ who: 'auditor', env: {} }, args, z.looseObject({}));
  return file;
};

const sizeOf = ({ checkpoint }: PackedReceipts): number => {
  const read = readNote(checkpoint);
  if (!read.ok) throw new Error(`a receipt with a checkpoint that cannot be read: ${read.reason}`);
  return read.value.checkpoint.size;
};

/** The anchors that receipts rest on, as the log lists them. */
const anchorsUnder = async (scene: Scene, receipts: readonly PackedReceipts[]): Promise<readonly Anchor[]> => {
  if (scene.stack.chain === undefined) return [];
  const sizes = new Set(receipts.map(sizeOf));
  const { anchors } = finalAnchors.parse(await askJson(`${await logUrlOf(scene)}/anchors`, { signal: scene.signal }));
  return anchors
    .filter(({ size }) => sizes.has(size))
    .map(({ size, chainId, contract, transaction, blockNumber, blockHash }) => ({
      size,
      chainId,
      contract,
      transaction,
      blockNumber,
      blockHash,
    }));
};

/** Everything that an auditor needs later, while the services still run. */
export const gatherEvidence = async (
  scene: Scene,
  agreements: Agreements,
  readReceipts: (files: readonly string[]) => readonly PackedReceipts[],
): Promise<Evidence> => {
  await endAll(scene, agreements);
  const early = await Promise.all(holderNames.map((name) => finalReceipts(scene, name, agreements[name].agreementId)));
  scene.report.say('The last statements are signed by both sides and stand in the log.');
  await awaitAnchor(scene, early.flat());
  const accesses = await countAccesses(scene);
  const receiptFiles = await writeReceipts(scene, agreements);
  const trustFile = await makeTrust(scene);
  const anchors = await anchorsUnder(scene, readReceipts(receiptFiles));
  for (const { size, transaction, blockNumber } of anchors)
    scene.report.say(`Checkpoint of size ${size} is anchored in block ${blockNumber}, transaction ${transaction}`);
  return { accesses, anchors, receiptFiles, trustFile };
};
