import { compilePolicy } from '../policies/compile.ts';
import { decide } from '../policies/evaluate.ts';
import { explain } from '../policies/explain.ts';
import { type BenchRow, isTiny, threadSeconds } from './row.ts';

const constraint = (leftOperand: string, operator: string, rightOperand: unknown) => ({
  leftOperand,
  operator,
  rightOperand,
});

/** The reference policy of the design, in the operands that we have: five constraints and two prohibitions. */
const policy = {
  permission: [
    {
      action: 'use',
      constraint: [
        constraint('odrl:purpose', 'isAnyOf', ['urn:a', 'urn:b', 'urn:c']),
        constraint('odrl:dateTime', 'lt', '2030-01-01T00:00:00Z'),
        constraint('odrl:count', 'lteq', '1000000'),
        { or: [constraint('urn:stekker:1:role', 'eq', 'x'), constraint('urn:stekker:1:role', 'eq', 'y')] },
        constraint('urn:stekker:1:membership', 'eq', 'did:web:broker.example'),
      ],
    },
  ],
  prohibition: [
    { action: 'odrl:distribute' },
    { action: 'use', constraint: [constraint('odrl:purpose', 'eq', 'urn:marketing')] },
  ],
};
const facts = {
  now: 1_795_431_600_000,
  purpose: 'urn:b',
  count: 3,
  role: ['y'],
  membership: ['did:web:broker.example'],
};

const perSecond = (asked: number, work: () => void): number => {
  const times = isTiny ? asked / 1_000 : asked;
  for (let index = 0; index < times / 10; index += 1) work();
  const start = process.threadCpuUsage();
  for (let index = 0; index < times; index += 1) work();
  return times / threadSeconds(start);
};

/** Decisions, explanations and compilations a second, one core. */
export const run = async (): Promise<BenchRow[]> => {
  const compiled = compilePolicy(policy, 'access');
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.faults));
  let permitted = 0;
  const decided = perSecond(5_000_000, () => {
    permitted += decide(compiled.policy, facts) ? 1 : 0;
  });
  if (permitted === 0) throw new Error('the policy of the benchmark permits nothing');
  const row = (name: string, value: number, least: number, target: string): BenchRow => ({
    name,
    value,
    unit: '/cpu s',
    limit: null,
    ratio: null,
    target,
    isHit: value >= least,
    growth: 'linear in the terms of the policy',
  });
  return [
    row('policy decision, compiled', decided, 10_000_000, '≥ 10 M/s per core'),
    row(
      'policy explanation, full',
      perSecond(200_000, () => void explain(compiled.policy, facts)),
      100_000,
      '≥ 100,000/s per core',
    ),
    row(
      'policy compilation',
      perSecond(50_000, () => void compilePolicy(policy, 'access')),
      100_000,
      '≤ 10 µs each',
    ),
  ];
};
