import artifact from './stekker-anchor.json' with { type: 'json' };

/** The anchor contract as it is deployed: interface and bytes, made from `StekkerAnchor.sol` by `scripts/build-anchor.ts`. */
export const anchorAbi = artifact.abi;
export const anchorBytecode = artifact.bytecode;
