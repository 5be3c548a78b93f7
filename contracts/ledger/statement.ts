import { z } from 'zod';
import { toBase64Url, utf8 } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { canonicalize } from '../json.ts';
import type { SignedBy } from './agreement.ts';
import {
  bad,
  type Checked,
  check,
  decimal,
  did,
  good,
  hash32,
  hashOrNone,
  name,
  party,
  positiveDecimal,
  readCanonical,
  requestId,
  time,
  units,
  version,
} from './forms.ts';
import { type GeneralJws, generalJws, readJws } from './jws.ts';
import { outcomes } from './record.ts';

/** Usage statements (ledger §8): cumulative, numbered without gaps, signed by both. */

export const usageStatement = z
  .strictObject({
    v: version,
    type: z.literal('usage-statement'),
    agreement: name,
    agreementDigest: hash32,
    provider: did,
    consumer: party,
    seq: positiveDecimal,
    from: time,
    to: time,
    first: positiveDecimal,
    last: decimal,
    root: hash32,
    sums: hash32,
    price: hashOrNone,
    prev: z.union([hash32, z.null()], { error: 'is neither a hash nor null' }),
    final: z.boolean(),
    ext: hashOrNone,
    leafKey: hash32,
    salt: hash32,
  })
  .refine((statement) => statement.provider !== statement.consumer, { path: ['consumer'], message: 'is the provider' })
  .refine((statement) => BigInt(statement.last) + 1n >= BigInt(statement.first), {
    path: ['last'],
    message: 'lies before first',
  })
  .refine((statement) => statement.from <= statement.to, { path: ['to'], message: 'lies before from' })
  .refine((statement) => (statement.prev === null) === (statement.seq === '1'), {
    path: ['prev'],
    message: 'is null exactly for the first statement',
  });
export type UsageStatement = z.infer<typeof usageStatement>;

export const statementSums = z.strictObject({
  amount: z.strictObject({
    currency: z.union([z.literal(''), z.string().regex(/^[A-Z]{3}$/)]),
    scale: z.string().regex(/^([0-9]|1[0-8])$/),
    value: decimal,
  }),
  salt: hash32,
  totals: units,
});
export type StatementSums = z.infer<typeof statementSums>;

export const statementText = (statement: UsageStatement): string => canonicalize(statement);
export const readStatement = (text: string): Checked<UsageStatement> => readCanonical(usageStatement, text);

/** `b64u H(P)` */
export const statementDigest = (crypto: Pick<Crypto, 'sha256'>, payloadText: string): string =>
  toBase64Url(crypto.sha256(utf8(payloadText)));

/** `b64u H(JCS(S))` */
export const sumsDigest = (crypto: Pick<Crypto, 'sha256'>, sums: StatementSums): string =>
  toBase64Url(crypto.sha256(utf8(canonicalize(sums))));

/** Reads a statement artifact; signatures are not verified yet. */
export const readStatementArtifact = (value: unknown): Checked<SignedBy<UsageStatement>> => {
  const jws = readJws(value, 'stekker-usage-statement+jws');
  if (!jws.ok) return jws;
  const payload = readStatement(jws.value.payload);
  return payload.ok ? good({ ...jws.value, jws: value as GeneralJws, value: payload.value }) : payload;
};

/** Whether a statement may follow another of the same agreement (ledger §8 rules). `previous` is undefined for seq 1. */
export const checkFollows = (
  crypto: Pick<Crypto, 'sha256'>,
  statement: UsageStatement,
  previous: { readonly text: string; readonly value: UsageStatement } | undefined,
): Checked<undefined> => {
  if (previous === undefined) {
    return statement.seq === '1' && statement.first === '1'
      ? good(undefined)
      : bad('the first statement has seq 1 and first 1');
  }
  const { value } = previous;
  if (value.final) return bad('the statement before was final');
  const rules: readonly (readonly [boolean, string])[] = [
    [statement.agreementDigest === value.agreementDigest, 'is of another agreement'],
    [statement.provider === value.provider && statement.consumer === value.consumer, 'is between other parties'],
    [statement.price === value.price, 'has another price plan'],
    [BigInt(statement.seq) === BigInt(value.seq) + 1n, 'does not have the next seq'],
    [BigInt(statement.first) === BigInt(value.last) + 1n, 'does not begin after the last record of the one before'],
    [statement.from === value.to, 'does not begin when the one before ended'],
    [statement.prev === statementDigest(crypto, previous.text), 'does not name the one before by its hash'],
  ];
  const broken = rules.find(([holds]) => !holds);
  return broken === undefined ? good(undefined) : bad(`the statement ${broken[1]}`);
};

/** Whether totals and amount never fall from one opening to the next. */
export const checkSumsGrow = (before: StatementSums, after: StatementSums): Checked<undefined> => {
  const fallen = Object.entries(before.totals).find(
    ([unit, count]) => BigInt(after.totals[unit] ?? '0') < BigInt(count),
  );
  if (fallen !== undefined) return bad(`the total of ${fallen[0]} falls`);
  if (before.amount.currency !== after.amount.currency || before.amount.scale !== after.amount.scale)
    return bad('the currency changes');
  return BigInt(after.amount.value) < BigInt(before.amount.value) ? bad('the amount falls') : good(undefined);
};

export const have = z.strictObject({
  bytes: decimal,
  digest: hash32,
  outcome: z.enum(outcomes),
  status: z.string().max(3),
  units,
});

/** What one side has for a record: what a refusal tells, and what a disputed record keeps of both. */
export type Have = z.infer<typeof have>;

export const refusalCodes = ['counts', 'missing', 'totals', 'price', 'order', 'time', 'key'] as const;

export const statementRefusal = z.strictObject({
  v: version,
  type: z.literal('statement-refusal'),
  agreementDigest: hash32,
  seq: positiveDecimal,
  draft: hash32,
  code: z.enum(refusalCodes),
  records: z
    .array(z.strictObject({ request: requestId, part: positiveDecimal, have: z.union([have, z.null()]) }))
    .max(20_000),
});
export type StatementRefusal = z.infer<typeof statementRefusal>;

export const refusalText = (refusal: StatementRefusal): string => canonicalize(refusal);

export const readRefusalArtifact = (value: unknown): Checked<SignedBy<StatementRefusal>> => {
  const jws = readJws(value, 'stekker-statement-refusal+jws');
  if (!jws.ok) return jws;
  const payload = readCanonical(statementRefusal, jws.value.payload);
  return payload.ok ? good({ ...jws.value, jws: value as GeneralJws, value: payload.value }) : payload;
};

const equivocationForm = z.strictObject({ type: z.literal('equivocation-proof'), a: generalJws, b: generalJws });
export type EquivocationProof = z.infer<typeof equivocationForm>;

/**
 * Reads an equivocation proof (ledger §8): two statements with the same agreementDigest, seq, provider and consumer, and
 * other content. Which signatures hold, and by whose key, the caller verifies.
 */
export const readEquivocation = (
  value: unknown,
): Checked<{ readonly a: SignedBy<UsageStatement>; readonly b: SignedBy<UsageStatement> }> => {
  const form = check(equivocationForm, value);
  if (!form.ok) return form;
  const a = readStatementArtifact(form.value.a);
  const b = readStatementArtifact(form.value.b);
  if (!a.ok) return a;
  if (!b.ok) return b;
  const same = (['agreementDigest', 'seq', 'provider', 'consumer'] as const).every(
    (key) => a.value.value[key] === b.value.value[key],
  );
  if (!same) return bad('the two are not statements for one number');
  return a.value.payload === b.value.payload ? bad('the two say the same') : good({ a: a.value, b: b.value });
};
