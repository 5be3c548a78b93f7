import { AppError } from '../../contracts/errors.ts';
import { type Amendment, amendProcess } from '../exchange/send.ts';
import type { AgreementEnd, NegotiationData, NegotiationRow } from './ports.ts';
import type { Exchanged, NegotiationOptions } from './process.ts';
import { statusAfter, successionReason, successorIn } from './rules.ts';

/**
 * Amending an agreement (dsp §12.3): a normal new negotiation, and when its agreement is in force, the one who asked for it
 * signs that the old one ends in its favour. The old one stays in force until the other side has acknowledged that.
 */

type Amended = Amendment<NegotiationData> | undefined;

/** After an agreement came into force: ends the one that it takes the place of. Bears repeats. */
export const supersede = async (its: Exchanged, options: NegotiationOptions, row: NegotiationRow): Promise<void> => {
  const { amends, agreement, status } = row.data;
  if (amends === undefined || amends.done || agreement === null || status !== 'in-force') return;
  const old = await its.store.findByName(row.participant, 'agreement', amends.agreement);
  if (old?.process.state === 'FINALIZED' && old.data.end === null) {
    const successor = agreement.digest === '' ? String(agreement.agreement['@id'] ?? '') : agreement.digest;
    const made = await options.agreements.ends.make(old, { event: 'end', reason: successionReason(successor) });
    const end: AgreementEnd = { ...made, waits: !made.delivered };
    await amendProcess(its, old, ({ data }): Amended => {
      if (data.end !== null) return undefined;
      if (end.waits !== true) return { data: { ...data, status: statusAfter(end), end } };
      const tasks = [{ topic: 'negotiations-end', id: old.pid, dueAt: its.clock.now() }];
      return { data: { ...data, end }, work: false, tasks };
    });
  }
  await amendProcess(
    its,
    row,
    ({ data }): Amended =>
      data.amends === undefined
        ? undefined
        : { data: { ...data, amends: { ...data.amends, done: true } }, work: false },
  );
};

/**
 * Whether we can acknowledge the successor that the peer's end names: an agreement in force with the same peer about the same
 * dataset. Under plain-dsp a consumer has no digest of ours to compare, and takes it as an end.
 *
 * @throws AppError `agreement-refused`, or `not-yet` while the successor is on its way.
 */
export const mustKnowSuccessor = async (its: Exchanged, row: NegotiationRow, end: AgreementEnd): Promise<void> => {
  const digest = successorIn(end.reason);
  if (digest === undefined || row.data.agreement?.digest === '') return;
  const successor = await its.store.findByName(row.participant, 'agreementDigest', digest);
  const { process, data } = row;
  const fits =
    successor?.peer === row.peer && successor.process.role === process.role && successor.data.dataset === data.dataset;
  if (!fits) throw new AppError('agreement-refused', { detail: 'the successor is no agreement between us about this' });
  if (successor.process.state !== 'FINALIZED' && !its.machine.isFinal(successor.process.state))
    throw new AppError('not-yet', { retryAfterSeconds: 1 });
  if (successor.process.state !== 'FINALIZED' || successor.data.end !== null)
    throw new AppError('agreement-refused', { detail: 'the successor is not in force' });
};
