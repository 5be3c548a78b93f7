import { z } from 'zod';
import { formatAmount } from '../../contracts/ledger/price-plan.ts';
import { type ApplicationKeys, applicationName } from './joining.ts';
import { eventually } from './processes.ts';
import { operate, purpose, type Scene } from './scene.ts';
import { type HolderName, holderNames, sourceKeyHeader } from './stack.ts';

/** Three offers: published by their owners, found through the broker, agreed to in parallel. */

/** Ids of the datasets; each owner chose its own. */
export const datasets: Readonly<Record<HolderName, string>> = {
  places: 'urn:voorbeeld:plaatsen',
  borders: 'urn:voorbeeld:grenzen',
  water: 'urn:voorbeeld:waterstanden',
};

const published = z.looseObject({ offer: z.looseObject({ id: z.string() }) });

const termsOf = ({ stack }: Scene): Readonly<Record<HolderName, readonly string[]>> => {
  const { broker, sourceKeyFile } = stack;
  const forCrisis = ['--set', `purpose=${purpose}`];
  const forMembers = ['--set', `broker=${broker.did}`];
  return {
    places: ['--title', 'Plaatsenregister', '--policy', 'purpose', ...forCrisis, '--price', '0.02 EUR per request'],
    borders: ['--title', 'Grenzen', '--policy', 'members', ...forMembers],
    water: [
      ...['--title', 'Waterstanden (synthetisch)', '--policy', 'accredited', ...forMembers, ...forCrisis],
      ...['--price', '0.05 EUR per request', '--price', '0.2500 EUR per MB'],
      ...['--header', sourceKeyHeader, '--header-file', sourceKeyFile],
    ],
  };
};

/** Each data holder publishes in one line. */
export const publishAll = async (scene: Scene): Promise<void> => {
  const terms = termsOf(scene);
  const { terminal, stack } = scene;
  await Promise.all(
    holderNames.map((name) => {
      const { operator, sourceUrl } = stack.holders[name];
      const args = ['publish', sourceUrl, '--id', datasets[name], ...terms[name], '--keyword', 'demo'];
      return terminal.run(operator, args, published);
    }),
  );
};

const plan = z.looseObject({
  currency: z.string(),
  scale: z.string(),
  lines: z.array(z.looseObject({ unit: z.string(), quantity: z.string(), value: z.string() })),
});
const found = z.looseObject({
  id: z.string(),
  title: z.string(),
  provider: z.looseObject({ name: z.string() }),
  offers: z.array(z.looseObject({ verdict: z.string(), price: plan.nullable() })),
});

const priceText = (price: z.infer<typeof plan> | null): string =>
  price === null
    ? 'free'
    : price.lines
        .map(({ unit, quantity, value }) => {
          const per = quantity === '1' ? unit.replace(/s$/, '') : `${quantity} ${unit}`;
          return `${formatAmount(value, price.scale)} ${price.currency} per ${per}`;
        })
        .join(' + ');

/** The runtime asks the broker's store what it may get, and what it costs. */
export const findOffers = async (scene: Scene): Promise<void> => {
  const { terminal, report, stack, signal } = scene;
  await operate(stack.broker, '/v1/store/harvest', scene, {});
  await eventually(
    async () => {
      const { items } = z
        .looseObject({ items: z.array(found) })
        .parse(await operate(stack.runtime, '/v1/search?q=demo', scene));
      return items.length >= holderNames.length ? items : undefined;
    },
    { what: 'the offers reach the store', signal },
  );
  const args = ['offers', 'demo', '--purpose', purpose, '--application', applicationName];
  const items = await terminal.run(stack.runtime.operator, args, z.array(found));
  const rows = items.map(({ title, provider, offers: [best] }) => [
    title,
    provider.name,
    best?.verdict ?? 'none',
    best === undefined ? '' : priceText(best.price),
  ]);
  report.table([['dataset', 'provider', 'for us', 'price'], ...rows]);
};

const fetched = z.looseObject({
  agreementId: z.string(),
  agreementDigest: z.string(),
  provider: z.string(),
  request: z.string(),
  reused: z.boolean(),
});
/** The agreements by data holder. */
export type Agreements = Readonly<Record<HolderName, z.infer<typeof fetched>>>;

/** All three at once: the first fetch of a dataset negotiates, and both sides sign. */
export const agreeToAll = async (
  { folder, terminal, report, stack }: Scene,
  keys: ApplicationKeys,
): Promise<Agreements> => {
  const one = (name: HolderName) => {
    const use = ['--purpose', purpose, '--application', applicationName, '--key-file', keys.accredited];
    const out = folder.at('result', `${name}-collections.json`);
    return terminal.run(
      stack.runtime.operator,
      ['fetch', datasets[name], 'collections', ...use, '--out', out],
      fetched,
    );
  };
  const [places, borders, water] = await Promise.all([one('places'), one('borders'), one('water')]);
  const agreements = { places, borders, water };
  for (const name of holderNames) report.say(`${datasets[name]}: ${agreements[name].agreementId}`);
  return agreements;
};
