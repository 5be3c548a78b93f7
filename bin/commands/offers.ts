import { z } from 'zod';
import { type Command, numberOf, type Parsed, type Terminal } from '../command.ts';
import { connect, connectorPort, listAll } from '../management.ts';
import { priceText } from '../price.ts';
import { plain } from '../text.ts';

const plan = z.looseObject({
  currency: z.string(),
  scale: z.string(),
  lines: z.array(z.looseObject({ unit: z.string(), quantity: z.string(), value: z.string() })),
});
const sentence = z.looseObject({ nl: z.string(), en: z.string() });
const offer = z.looseObject({
  id: z.string(),
  assurance: z.string(),
  price: plan.nullable(),
  priceDigest: z.string().nullable(),
  verdict: z.enum(['fits', 'depends', 'refused']).optional(),
  reasons: z.array(sentence).optional(),
});
const found = z.looseObject({
  id: z.string(),
  title: z.string(),
  provider: z.looseObject({ did: z.string(), name: z.string() }).optional(),
  offers: z.array(offer),
  unreadable: z.array(z.looseObject({ id: z.string(), why: z.string() })),
});
type Found = z.output<typeof found>;

type Language = 'nl' | 'en';

const words: Readonly<
  Record<Language, Readonly<Record<'fits' | 'depends' | 'refused' | 'free' | 'hidden' | 'none', string>>>
> = {
  en: {
    fits: 'yes',
    depends: 'maybe',
    refused: 'no',
    free: 'free',
    hidden: 'price not shown',
    none: 'Nothing was found.',
  },
  nl: {
    fits: 'ja',
    depends: 'misschien',
    refused: 'nee',
    free: 'gratis',
    hidden: 'prijs niet getoond',
    none: 'Er is niets gevonden.',
  },
};

const priceOf = ({ price, priceDigest }: z.output<typeof offer>, language: Language): string => {
  if (price === null) return words[language][priceDigest === null ? 'free' : 'hidden'];
  return price.lines.length === 0 ? words[language].free : priceText(price);
};

const printOne = ({ title, id, provider, offers, unreadable }: Found, language: Language, terminal: Terminal): void => {
  terminal.out(plain(provider === undefined ? title : `${title} – ${provider.name} (${provider.did})`));
  terminal.out(`  ${plain(id)}`);
  for (const one of offers) {
    const verdict = one.verdict === undefined ? '' : `${words[language][one.verdict]}: `;
    terminal.out(plain(`  ${verdict}${priceOf(one, language)} · ${one.assurance} · ${one.id}`));
    for (const reason of one.reasons ?? []) terminal.out(plain(`    - ${reason[language]}`));
  }
  for (const one of unreadable) terminal.out(plain(`  – ${one.id}: ${one.why}`));
};

const pathOf = (parsed: Parsed): string => {
  const provider = parsed.text('provider');
  if (provider !== undefined) return `/v1/catalog?provider=${encodeURIComponent(provider)}`;
  const query = new URLSearchParams({ q: parsed.positionals.join(' ') });
  for (const name of ['purpose', 'application']) {
    const value = parsed.text(name);
    if (value !== undefined) query.set(name, value);
  }
  return `/v1/search?${query}`;
};

const defaultLimit = 20;

/** What may I get, and why not the rest. */
export const offers: Command = {
  name: 'offers',
  summary: 'Search the store: what may I get, and why not the rest.',
  usage: '[WORD …] [--purpose IRI] [--application ID@VERSION]',
  about: `Asks the broker's store, and judges each offer by what this connector can prove, for the purpose and the application
you name: yes, maybe (something is not known yet) or no, with the reason. The provider decides in the end.
With --provider the catalog of one provider is read instead, as it shows itself to you.`,
  examples: [
    'stekker offers waterstand',
    'stekker offers --purpose urn:stekker:1:purpose:crisis --application urn:stekker:1:app:evacuatie@1.0.0',
    'stekker offers --provider did:web:waterschap.example --json',
  ],
  options: {
    purpose: { type: 'string', value: 'IRI', about: 'What you will use it for.' },
    application: { type: 'string', value: 'ID@VERSION', about: 'The application that will use it.' },
    provider: { type: 'string', value: 'DID', about: 'Read the catalog of this provider instead.' },
    limit: { type: 'string', value: 'N', about: `At most this many datasets; default ${defaultLimit}.` },
    lang: { type: 'string', value: 'en|nl', about: 'Language of the reasons; default en.' },
  },
  run: async (parsed, terminal) => {
    const limit = numberOf(parsed, 'limit', { min: 1, max: 100_000, fallback: defaultLimit });
    const datasets = await listAll(connect(terminal.env, connectorPort), pathOf(parsed), found, limit);
    const language: Language = parsed.text('lang') === 'nl' ? 'nl' : 'en';
    if (parsed.flag('json')) terminal.out(JSON.stringify(datasets));
    else if (datasets.length === 0) terminal.out(words[language].none);
    else for (const dataset of datasets) printOne(dataset, language, terminal);
    return 0;
  },
};
