import type { UsageMeter } from './ports.ts';

/** Does the work in the turn in which an access under this agreement can be judged and opened; the answer is the work's. */
export const prepared = <Value>(
  meter: Pick<UsageMeter, 'prepare'>,
  { agreement, isCounted = false }: { readonly agreement: string; readonly isCounted?: boolean },
  work: () => Value,
): Promise<Awaited<Value>> =>
  new Promise((resolve, reject) => {
    const go = (): void => {
      try {
        resolve(work() as Awaited<Value>);
      } catch (error) {
        reject(error);
      }
    };
    if (meter.prepare(agreement, go, isCounted)) go();
  });
