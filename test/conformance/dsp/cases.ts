import type { Kind } from './messages.ts';

/**
 * The 65 cases under their official names. A case is a line of steps: `>` the kit sends and the connector accepts, `<` the
 * connector sends, `!` the kit sends and the connector refuses, `quiet` nothing may happen for a while. After each step the
 * connector must be seen in the state that the message leads to, and each case ends quietly.
 */

export type Group = 'MET' | 'CAT' | 'CN' | 'CN_C' | 'TP' | 'TP_C';

export type Step =
  | { readonly do: 'request' | 'trigger' | 'quiet' }
  | { readonly do: 'send' | 'take' | 'tryIn'; readonly kind: Kind };

/** Metadata and catalog: no process, so no steps. */
const documents = ['MET:01-01', 'CAT:01-01', 'CAT:01-02', 'CAT:01-03'] as const;
export type DocumentCase = (typeof documents)[number];

const processes = {
  'CN:01-01': 'request <offer >termination',
  'CN:01-02': 'request <offer >request <termination',
  'CN:01-03': 'request <offer >accepted <agreement >verification <finalized',
  'CN:01-04': 'request <agreement >verification <finalized',
  'CN:02-01': 'request <termination',
  'CN:02-02': 'request quiet >termination',
  'CN:02-03': 'request <agreement >termination',
  'CN:02-04': 'request <offer quiet >termination',
  'CN:02-05': 'request <offer <termination',
  'CN:02-06': 'request <offer >accepted <termination',
  'CN:02-07': 'request <agreement >verification <termination',
  'CN:03-01': 'request <agreement >verification <finalized !termination',
  'CN:03-02': 'request <offer !verification',
  'CN:03-03': 'request <offer >accepted !verification',
  'CN:03-04': 'request <offer >request !request',

  'CN_C:01-01': 'trigger >offer <accepted >agreement <verification >finalized',
  'CN_C:01-02': 'trigger >offer <request >termination',
  'CN_C:01-03': 'trigger >offer <termination',
  'CN_C:01-04': 'trigger >agreement <verification >finalized',
  'CN_C:02-01': 'trigger quiet >termination',
  'CN_C:02-02': 'trigger <termination',
  'CN_C:02-03': 'trigger >agreement <termination',
  'CN_C:02-04': 'trigger >offer quiet >termination',
  'CN_C:02-05': 'trigger >offer <accepted >termination',
  'CN_C:02-06': 'trigger >agreement <verification >termination',
  'CN_C:03-01': 'trigger !finalized',
  'CN_C:03-02': 'trigger >offer !agreement',
  'CN_C:03-03': 'trigger >offer !finalized',
  'CN_C:03-04': 'trigger >offer <accepted !finalized',
  'CN_C:03-05': 'trigger >offer <accepted !offer',
  'CN_C:03-06': 'trigger >offer <accepted >agreement !finalized',

  'TP:01-01': 'request <start <termination',
  'TP:01-02': 'request <start <completion',
  'TP:01-03': 'request <start <suspension <termination',
  'TP:01-04': 'request <start <suspension <start <completion',
  'TP:01-05': 'request <termination',
  'TP:02-01': 'request <start >termination',
  'TP:02-02': 'request <start >completion',
  'TP:02-03': 'request <start >suspension >termination',
  'TP:02-05': 'request quiet >termination',
  'TP:03-01': 'request !completion',
  'TP:03-02': 'request !suspension',
  'TP:03-03': 'request <start >suspension !completion',
  'TP:03-04': 'request <start >termination !start',
  'TP:03-05': 'request <start >termination !suspension',
  'TP:03-06': 'request <start >termination !completion',

  'TP_C:01-01': 'trigger >start >termination',
  'TP_C:01-02': 'trigger >start >completion',
  'TP_C:01-03': 'trigger >start >suspension >termination',
  'TP_C:01-04': 'trigger >start >suspension >start >completion',
  'TP_C:01-05': 'trigger >termination',
  'TP_C:02-01': 'trigger >start <termination',
  'TP_C:02-02': 'trigger >start <completion',
  'TP_C:02-03': 'trigger >start <suspension <termination',
  'TP_C:02-05': 'trigger <termination',
  'TP_C:03-01': 'trigger !completion',
  'TP_C:03-02': 'trigger !suspension',
  'TP_C:03-03': 'trigger >start >suspension !completion',
  'TP_C:03-04': 'trigger >start >termination !start',
  'TP_C:03-05': 'trigger >start >termination !suspension',
  'TP_C:03-06': 'trigger >start >termination !completion',
} as const;
export type ProcessCase = keyof typeof processes;
export const processCases = Object.keys(processes) as readonly ProcessCase[];

export type CaseName = DocumentCase | ProcessCase;

/** In the order of the official list. */
export const caseNames: readonly CaseName[] = [...documents, ...processCases];

export const groupOf = (name: CaseName): Group => name.slice(0, name.indexOf(':')) as Group;

const signs = { '>': 'send', '<': 'take', '!': 'tryIn' } as const;

const parseStep = (word: string): Step => {
  const sign = word[0] ?? '';
  if (sign === '>' || sign === '<' || sign === '!') return { do: signs[sign], kind: word.slice(1) as Kind };
  return { do: word as 'request' | 'trigger' | 'quiet' };
};

export const stepsOf = (name: ProcessCase): readonly Step[] => processes[name].split(' ').map(parseStep);

export const isProcessCase = (name: CaseName): name is ProcessCase => name in processes;
