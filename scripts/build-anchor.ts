import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { compileStandard, solcVersion } from './solidity.ts';

/**
 * Compiles the anchor contract into `contracts/anchor/stekker-anchor.json`, which is committed: nobody who runs a broker
 * needs a compiler, and a test builds it again and compares.
 */

const root = resolve(import.meta.dirname, '..');
const source = 'contracts/anchor/StekkerAnchor.sol';
const target = 'contracts/anchor/stekker-anchor.json';

const output = z.object({
  errors: z.array(z.object({ severity: z.string(), formattedMessage: z.string() })).default([]),
  contracts: z.record(
    z.string(),
    z.record(
      z.string(),
      z.object({
        abi: z.array(z.unknown()),
        evm: z.object({ bytecode: z.object({ object: z.string().regex(/^[0-9a-f]+$/) }) }),
      }),
    ),
  ),
});

/** The text of the committed file, made from the source. */
export const buildAnchor = (): string => {
  const input = {
    language: 'Solidity',
    sources: { [source]: { content: readFileSync(resolve(root, source), 'utf8') } },
    settings: {
      optimizer: { enabled: true, runs: 10_000 },
      evmVersion: 'cancun',
      metadata: { bytecodeHash: 'none' },
      outputSelection: { '*': { StekkerAnchor: ['abi', 'evm.bytecode.object'] } },
    },
  };
  const answer = output.parse(JSON.parse(compileStandard(JSON.stringify(input), [resolve(root, 'node_modules')])));
  const built = answer.contracts[source]?.StekkerAnchor;
  if (answer.errors.length > 0 || built === undefined)
    throw new Error(answer.errors.map(({ formattedMessage }) => formattedMessage).join('\n'));
  const { abi, evm } = built;
  return `${JSON.stringify({ compiler: solcVersion(), abi, bytecode: `0x${evm.bytecode.object}` }, null, 2)}\n`;
};

if (import.meta.main) writeFileSync(resolve(root, target), buildAnchor());
