import { setTimeout as sleep } from 'node:timers/promises';
import type { Decision, Decisions, NegotiationRow } from '../../../connector/negotiation/ports.ts';
import { writeOffer } from '../../../connector/negotiation/rules.ts';
import type { TransferDecision, TransferDecisions, TransferRow } from '../../../connector/transfer/ports.ts';
import { type ProcessCase, processCases } from '../dsp/cases.ts';
import type { KitSettings } from '../dsp/settings.ts';

/**
 * What an owner would decide in each case, by the dataset or the agreement that it is about. The scripts only decide: the
 * connector's own machine says what may be sent, and sends it.
 */

/** What to do in a state; a second entry is for the second time. Anything else is waited for. */
type Script<State extends string, Act extends string> = Readonly<Partial<Record<State, readonly (Act | 'wait')[]>>>;

type NegotiationScript = Script<string, Exclude<Decision['do'], 'wait'>>;
type TransferScript = Script<string, Exclude<TransferDecision['do'], 'wait'>>;

/** Cases that are not named wait in every state. */
const negotiations: Readonly<Partial<Record<ProcessCase, NegotiationScript>>> = {
  'CN:01-01': { REQUESTED: ['offer'] },
  'CN:01-02': { REQUESTED: ['offer', 'terminate'] },
  'CN:01-03': { REQUESTED: ['offer'], ACCEPTED: ['agree'], VERIFIED: ['finalize'] },
  'CN:01-04': { REQUESTED: ['agree'], VERIFIED: ['finalize'] },
  'CN:02-01': { REQUESTED: ['terminate'] },
  'CN:02-03': { REQUESTED: ['agree'] },
  'CN:02-04': { REQUESTED: ['offer'] },
  'CN:02-05': { REQUESTED: ['offer'], OFFERED: ['terminate'] },
  'CN:02-06': { REQUESTED: ['offer'], ACCEPTED: ['terminate'] },
  'CN:02-07': { REQUESTED: ['agree'], VERIFIED: ['terminate'] },
  'CN:03-01': { REQUESTED: ['agree'], VERIFIED: ['finalize'] },
  'CN:03-02': { REQUESTED: ['offer'] },
  'CN:03-03': { REQUESTED: ['offer'] },
  'CN:03-04': { REQUESTED: ['offer', 'wait'] },

  'CN_C:01-01': { OFFERED: ['accept'], AGREED: ['verify'] },
  'CN_C:01-02': { OFFERED: ['request'] },
  'CN_C:01-03': { OFFERED: ['terminate'] },
  'CN_C:01-04': { AGREED: ['verify'] },
  'CN_C:02-02': { REQUESTED: ['terminate'] },
  'CN_C:02-03': { AGREED: ['terminate'] },
  'CN_C:02-05': { OFFERED: ['accept'] },
  'CN_C:02-06': { AGREED: ['verify'] },
  'CN_C:03-04': { OFFERED: ['accept'] },
  'CN_C:03-05': { OFFERED: ['accept'] },
  'CN_C:03-06': { OFFERED: ['accept'] },
};

const transfers: Readonly<Partial<Record<ProcessCase, TransferScript>>> = {
  'TP:01-01': { REQUESTED: ['start'], STARTED: ['terminate'] },
  'TP:01-02': { REQUESTED: ['start'], STARTED: ['complete'] },
  'TP:01-03': { REQUESTED: ['start'], STARTED: ['suspend'], SUSPENDED: ['terminate'] },
  'TP:01-04': { REQUESTED: ['start'], STARTED: ['suspend', 'complete'], SUSPENDED: ['start'] },
  'TP:01-05': { REQUESTED: ['terminate'] },
  'TP:02-01': { REQUESTED: ['start'] },
  'TP:02-02': { REQUESTED: ['start'] },
  'TP:02-03': { REQUESTED: ['start'] },
  'TP:03-03': { REQUESTED: ['start'] },
  'TP:03-04': { REQUESTED: ['start'] },
  'TP:03-05': { REQUESTED: ['start'] },
  'TP:03-06': { REQUESTED: ['start'] },

  'TP_C:02-01': { STARTED: ['terminate'] },
  'TP_C:02-02': { STARTED: ['complete'] },
  'TP_C:02-03': { STARTED: ['suspend'], SUSPENDED: ['terminate'] },
  'TP_C:02-05': { REQUESTED: ['terminate'] },
};

export const rules = { permission: [{ action: 'use' }] };

const code = 'conformance';
const reason = ['The case asks for it.'];

const decisionOf = (act: Decision['do'] | undefined, { data }: NegotiationRow): Decision => {
  switch (act) {
    case 'offer':
    case 'request':
      return { do: act, offer: writeOffer({ id: data.offerId, dataset: data.dataset, rules }) };
    case 'terminate':
      return { do: act, code, reason };
    default:
      return { do: act ?? 'wait' };
  }
};

const transferDecisionOf = (act: TransferDecision['do'] | undefined): TransferDecision =>
  act === 'suspend' || act === 'terminate' ? { do: act, code, reason } : { do: act ?? 'wait' };

/** How often each process was asked in a state: a row that did not change is the same time. */
const createVisits = () => {
  const seen = new Map<string, Set<number>>();
  return ({ pid, process, version }: TransferRow): number => {
    const key = `${pid} ${process.state}`;
    const versions = seen.get(key) ?? new Set();
    seen.set(key, versions.add(version));
    return versions.size - 1;
  };
};

/** The decisions of all cases, each after a pause, so that whoever watches sees every state. */
export const scriptedDecisions = (
  { idOf }: Pick<KitSettings, 'idOf'>,
  pauseMs: number,
): { readonly decisions: Decisions; readonly transferDecisions: TransferDecisions } => {
  const byDataset = new Map(processCases.map((name) => [idOf(name, 'DATASETID'), negotiations[name] ?? {}]));
  const byAgreement = new Map(processCases.map((name) => [idOf(name, 'AGREEMENTID'), transfers[name] ?? {}]));
  const visits = createVisits();
  return {
    decisions: {
      next: async (row) => {
        // A provider was asked once more for each offer that it made.
        const time = row.process.state === 'REQUESTED' ? row.data.offers.length - 1 : 0;
        await sleep(pauseMs);
        return decisionOf(byDataset.get(row.data.dataset)?.[row.process.state]?.[time], row);
      },
    },
    transferDecisions: {
      next: async (row) => {
        const time = visits(row);
        await sleep(pauseMs);
        return transferDecisionOf(byAgreement.get(row.data.agreementId)?.[row.process.state]?.[time]);
      },
    },
  };
};
