import { createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';

/** Keys and signatures for tests, from seeds, so that a failure can be repeated. */
export interface TestKey {
  readonly privateKey: KeyObject;
  readonly spki: Uint8Array;
}

const ed25519Pkcs8 = Buffer.from('302e020100300506032b657004220420', 'hex');

const keyOf = (privateKey: KeyObject): TestKey => ({
  privateKey,
  spki: createPublicKey(privateKey).export({ format: 'der', type: 'spki' }),
});

/** The Ed25519 key whose seed is 32 times this byte. */
export const ed25519FromByte = (byte: number): TestKey =>
  keyOf(createPrivateKey({ key: Buffer.concat([ed25519Pkcs8, Buffer.alloc(32, byte)]), format: 'der', type: 'pkcs8' }));

/** The P-256 key whose private number is 32 times this byte. */
export const p256FromByte = (byte: number): TestKey => {
  const number = Buffer.alloc(32, byte);
  const sec1 = Buffer.concat([
    Buffer.from('30310201010420', 'hex'),
    number,
    Buffer.from('a00a06082a8648ce3d030107', 'hex'),
  ]);
  return keyOf(createPrivateKey({ key: sec1, format: 'der', type: 'sec1' }));
};

export const signEd25519 = (key: TestKey, message: Uint8Array): Uint8Array => sign(null, message, key.privateKey);

/** DER ECDSA, as log entries have it. */
export const signDer = (key: TestKey, message: Uint8Array): Uint8Array => sign('sha256', message, key.privateKey);
