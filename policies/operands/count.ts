import { numberOperand } from './operand.ts';

const maxCount = 2 ** 53 - 1;

/** A whole number of accesses; `count lteq n` allows n of them, so the one that is asked for counts too. */
const parseCount = (text: string): number | undefined =>
  /^(0|[1-9]\d{0,15})$/.test(text) && Number(text) <= maxCount ? Number(text) : undefined;

/** How often the data was used under the agreement, this access included. */
export const count = numberOperand(
  {
    iri: 'http://www.w3.org/ns/odrl/2/count',
    fact: 'count',
    from: 'access',
    label: { nl: 'het aantal keren', en: 'the number of times' },
  },
  (facts) => (facts.count === undefined ? undefined : facts.count + 1),
  parseCount,
);
