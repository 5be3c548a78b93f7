import { z } from 'zod';
import { formatAmount } from '../../contracts/ledger/price-plan.ts';
import type { Command } from '../command.ts';
import { connect, connectorPort, listAll } from '../management.ts';
import { csv, table } from '../text.ts';

const decimal = z.string().regex(/^-?\d{1,30}$/);
const line = z.looseObject({
  role: z.enum(['provider', 'consumer']),
  agreementId: z.string(),
  peer: z.string(),
  dataset: z.string(),
  application: z.string(),
  purpose: z.string(),
  accesses: z.number(),
  bytes: z.number(),
  units: z.record(z.string(), z.string()),
  currency: z.string(),
  scale: z.string().regex(/^\d{1,2}$/),
  amount: decimal,
});
type Line = z.output<typeof line>;

const amountText = ({ amount, scale, currency }: Line): string =>
  currency === '' ? '' : `${formatAmount(amount, scale)} ${currency}`;

const heading = ['role', 'who', 'what', 'application', 'purpose', 'times', 'bytes', 'amount'];

const rowOf = (its: Line): readonly string[] => [
  its.role === 'provider' ? 'sold' : 'bought',
  its.peer,
  its.dataset,
  its.application,
  its.purpose,
  String(its.accesses),
  String(its.bytes),
  amountText(its),
];

interface Total {
  readonly role: Line['role'];
  readonly currency: string;
  readonly scale: string;
  readonly amount: string;
}

/** Amounts by role and currency, brought to the finest scale among them: integers all the way. */
const totalsOf = (lines: readonly Line[]): readonly Total[] => {
  const groups = Map.groupBy(
    lines.filter(({ currency }) => currency !== ''),
    ({ role, currency }) => `${role} ${currency}`,
  );
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const scale = Math.max(...group.map((one) => Number(one.scale)));
    const amount = group.reduce((sum, one) => sum + BigInt(one.amount) * 10n ** BigInt(scale - Number(one.scale)), 0n);
    return [{ role: first.role, currency: first.currency, scale: String(scale), amount: String(amount) }];
  });
};

const csvHeading = [
  'role',
  'peer',
  'dataset',
  'agreement',
  'application',
  'purpose',
  'accesses',
  'bytes',
  'units',
  'amount',
  'currency',
];

const csvRow = (its: Line): readonly string[] => [
  its.role,
  its.peer,
  its.dataset,
  its.agreementId,
  its.application,
  its.purpose,
  String(its.accesses),
  String(its.bytes),
  Object.entries(its.units)
    .map(([unit, count]) => `${unit}=${count}`)
    .join(' '),
  its.currency === '' ? '' : formatAmount(its.amount, its.scale),
  its.currency,
];

/** Who used what, for what, and for how much. */
export const usage: Command = {
  name: 'usage',
  summary: 'Who used what, for what, and for how much.',
  usage: '[--agreement ID] [--csv]',
  about: `A line for each agreement, application and purpose, of what others used here and what was used elsewhere; amounts are
those of what was recorded so far. Prove any of it with: stekker receipt --agreement ID --out FOLDER`,
  examples: ['stekker usage', 'stekker usage --csv > usage.csv', 'stekker usage --agreement urn:uuid:… --json'],
  options: {
    agreement: { type: 'string', value: 'ID', about: 'Only this agreement.' },
    csv: { type: 'boolean', about: 'Print CSV (RFC 4180).' },
  },
  run: async (parsed, terminal) => {
    const agreement = parsed.text('agreement');
    const path = `/v1/usage${agreement === undefined ? '' : `?agreement=${encodeURIComponent(agreement)}`}`;
    const lines = await listAll(connect(terminal.env, connectorPort), path, line);
    const totals = totalsOf(lines);
    if (parsed.flag('json')) terminal.out(JSON.stringify({ lines, totals }));
    else if (parsed.flag('csv')) for (const text of csv([csvHeading, ...lines.map(csvRow)])) terminal.out(text);
    else if (lines.length === 0) terminal.out('Nothing was used yet.');
    else {
      for (const text of table([heading, ...lines.map(rowOf)])) terminal.out(text);
      for (const { role, amount, scale, currency } of totals)
        terminal.out(`${role === 'provider' ? 'to receive' : 'to pay'}: ${formatAmount(amount, scale)} ${currency}`);
    }
    return 0;
  },
};
