import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { receiptText } from '../../contracts/ledger/receipt.ts';
import type { Receipts } from './receipts.ts';

/** Receipts as files, byte for byte as they verify, for whoever asks by the agreement's own id. */

export interface ReceiptFiles {
  readonly one: (participant: ParticipantId, request: string, withhold: Withheld) => Promise<string>;
  /**
   * One file for each statement with records. What the log refused for good is left out: an alarm told of it.
   *
   * @throws AppError `not-yet` while one of them is on its way, `not-found`.
   */
  readonly packed: (participant: ParticipantId, agreementId: string, withhold: Withheld) => Promise<readonly string[]>;
}

export interface Withheld {
  readonly context: boolean;
  readonly sums: boolean;
}

const optionsOf = ({ context, sums }: Withheld) => ({ withholdContext: context, withholdSums: sums });

/** @param digestOf finds the agreementDigest of an agreement that this participant is a party of. */
export const createReceiptFiles = (
  receipts: Receipts,
  digestOf: (participant: ParticipantId, agreementId: string) => Promise<string | undefined>,
): ReceiptFiles => ({
  one: async (participant, request, withhold) =>
    receiptText(await receipts.ofRequest(participant, request, optionsOf(withhold))),
  packed: async (participant, agreementId, withhold) => {
    const digest = await digestOf(participant, agreementId);
    if (digest === undefined) throw new AppError('not-found');
    const files: string[] = [];
    for await (const part of receipts.ofAgreement(participant, digest, optionsOf(withhold))) {
      if ('receipts' in part) files.push(receiptText(part.receipts));
      else if (part.missing.code === 'not-yet') throw part.missing;
    }
    return files;
  },
});
