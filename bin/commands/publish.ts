import { readFileSync, statSync } from 'node:fs';
import { basename, extname, resolve } from 'node:path';
import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import { argument, type Command, type Parsed, type Terminal } from '../command.ts';
import { connect, connectorPort, listAll, secretIn } from '../management.ts';
import { parsePrices, priceText } from '../price.ts';
import { plain, table } from '../text.ts';

const priceLine = z.looseObject({ unit: z.string(), quantity: z.string(), value: z.string() });
const published = z.looseObject({
  asset: z.looseObject({ id: z.string(), title: z.string() }),
  offer: z.looseObject({ id: z.string() }),
  price: z
    .looseObject({ plan: z.looseObject({ currency: z.string(), scale: z.string(), lines: z.array(priceLine) }) })
    .nullable(),
  withdrawn: z.array(z.string()),
});

const template = z.looseObject({
  name: z.string(),
  about: z.looseObject({ nl: z.string(), en: z.string() }),
  parameters: z.record(z.string(), z.looseObject({ example: z.string() })),
});

const mediaTypes: Readonly<Record<string, string>> = {
  '.geojson': 'application/geo+json',
  '.json': 'application/json',
  '.csv': 'text/csv',
  '.xml': 'application/xml',
  '.pdf': 'application/pdf',
};

const invalid = (detail: string): AppError => new AppError('invalid-request', { detail });

const kindOf = (path: string, said: string | undefined): 'file' | 'folder' => {
  if (said === 'file' || said === 'folder') return said;
  if (said !== undefined) throw invalid('--kind is file or folder');
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined)
    throw invalid(
      `there is no ${path} here; when it is on the machine of the connector, say --kind file or --kind folder`,
    );
  return found.isDirectory() ? 'folder' : 'file';
};

/** The secret of a source is never an argument: other users of a machine can see those. */
const credentialOf = (parsed: Parsed) => {
  const name = parsed.text('header');
  const file = parsed.text('header-file');
  if (name === undefined && file === undefined) return undefined;
  if (name === undefined || file === undefined) throw invalid('--header and --header-file go together');
  return { name, value: secretIn(file) };
};

const upstreamOf = (source: string, parsed: Parsed) => {
  if (/^https?:\/\//i.test(source)) {
    const credential = credentialOf(parsed);
    return { kind: 'http', url: source, ...(credential === undefined ? {} : { credential }) };
  }
  const kind = kindOf(source, parsed.text('kind'));
  return { kind, path: resolve(source) };
};

const mediaTypeOf = (source: string, kind: string, parsed: Parsed): string | undefined =>
  parsed.text('media-type') ?? (kind === 'file' ? mediaTypes[extname(source).toLowerCase()] : undefined);

const parametersOf = (parsed: Parsed): Record<string, string> =>
  Object.fromEntries(
    parsed.list('set').map((text) => {
      const at = text.indexOf('=');
      if (at < 1) throw invalid(`--set ${text} is not of the form NAME=VALUE`);
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );

const rulesIn = (file: string): unknown => {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new AppError('invalid-request', { detail: `${file} holds no JSON that can be read`, cause });
  }
};

const policyOf = (parsed: Parsed) => {
  const name = parsed.text('policy');
  const file = parsed.text('rules');
  if ((name === undefined) === (file === undefined))
    throw invalid('--policy NAME or --rules FILE says who may use it. See: stekker publish --templates');
  return file === undefined ? { template: name, parameters: parametersOf(parsed) } : { rules: rulesIn(file) };
};

const silenceOf = (parsed: Parsed): 'strict' | number | undefined => {
  const text = parsed.text('silence');
  if (text === undefined || text === 'strict') return text;
  if (!/^[1-9]\d{0,4}$/.test(text)) throw invalid('--silence is strict, or a number of seconds from 1');
  return Number(text) * 1_000;
};

const defined = (members: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));

const bodyOf = (source: string, parsed: Parsed) => {
  const upstream = upstreamOf(source, parsed);
  const keywords = parsed.list('keyword');
  return defined({
    id: parsed.text('id'),
    title: parsed.text('title') ?? basename(source.replace(/[?#].*$/, '').replace(/\/+$/, '')),
    description: parsed.text('description'),
    keywords: keywords.length === 0 ? undefined : keywords,
    upstream,
    mediaType: mediaTypeOf(source, upstream.kind, parsed),
    policy: policyOf(parsed),
    price: parsePrices(parsed.list('price')),
    assurance: parsed.text('assurance'),
    silence: silenceOf(parsed),
    replace: parsed.flag('replace') ? true : undefined,
  });
};

const show = ({ asset, offer, price, withdrawn }: z.output<typeof published>, terminal: Terminal): void => {
  terminal.out(`published ${plain(asset.title)}`);
  terminal.out(`  dataset ${asset.id}`);
  terminal.out(`  offer   ${offer.id}`);
  if (price !== null) terminal.out(plain(`  price   ${priceText(price.plan)}`));
  for (const id of withdrawn) terminal.out(`  instead of offer ${id}, which is withdrawn`);
  terminal.out("It is in your catalog now, and in the broker's store after its next harvest.");
  terminal.out(`See who uses it with: stekker usage. Take it back with: stekker withdraw ${offer.id}`);
};

const showTemplates = async (terminal: Terminal, asJson: boolean): Promise<number> => {
  const templates = await listAll(connect(terminal.env, connectorPort), '/v1/policy-templates', template);
  if (asJson) terminal.out(JSON.stringify(templates));
  else {
    const rows = templates.map(({ name, about, parameters }) => {
      const examples = Object.entries(parameters).map(([key, { example }]) => `--set ${key}=${example}`);
      return [name, about.en, examples.join(' ')];
    });
    for (const line of table([['policy', 'what it allows', 'parameters'], ...rows])) terminal.out(line);
  }
  return 0;
};

/** Publishes a file, folder or address: asset, policy and price in one line. */
export const publish: Command = {
  name: 'publish',
  summary: 'Publish a file, a folder or an address, under a policy and a price.',
  usage: 'SOURCE --policy NAME [--set NAME=VALUE …] [--price "0.25 EUR per request"]',
  about: `SOURCE is a file, a folder, or an http address; the connector reads it, and those with an agreement read it through the
connector. The policy says who may use it for what: by a template (see --templates) or by your own ODRL rules.
The same command again changes nothing; with other terms it adds an offer, or replaces the others with --replace.`,
  examples: [
    'stekker publish levels.geojson --policy open --price "0.0025 EUR per request"',
    'stekker publish ./reports --title "Reports" --policy purpose --set purpose=urn:stekker:1:purpose:crisis',
    'stekker publish https://source.example/api --header x-api-key --header-file key.txt --policy members --set broker=did:web:broker.example',
    'stekker publish --templates',
  ],
  options: {
    policy: { type: 'string', value: 'NAME', about: 'Policy template; --templates lists them.' },
    set: { type: 'string', value: 'NAME=VALUE', about: 'Parameter of the template.', multiple: true },
    rules: { type: 'string', value: 'FILE', about: 'ODRL rules of your own (JSON), instead of a template.' },
    price: {
      type: 'string',
      value: 'TEXT',
      about: 'Price: "0.25 EUR per request"; again for more lines.',
      multiple: true,
    },
    title: { type: 'string', value: 'TEXT', about: 'Title; by default the name of the source.' },
    description: { type: 'string', value: 'TEXT', about: 'What it is.' },
    keyword: { type: 'string', value: 'WORD', about: 'Keyword; may be given again.', multiple: true },
    id: { type: 'string', value: 'IRI', about: 'Id of the dataset; by default it follows from the content.' },
    'media-type': { type: 'string', value: 'TYPE', about: 'Media type; by default by the ending of a file.' },
    header: { type: 'string', value: 'NAME', about: 'Header that the address asks for, such as x-api-key.' },
    'header-file': { type: 'string', value: 'FILE', about: 'File with the value of that header; kept sealed.' },
    kind: { type: 'string', value: 'file|folder', about: 'What a path is, when it is not on this machine.' },
    assurance: { type: 'string', value: 'NAME', about: 'cosigned (default), or plain-dsp for other connectors.' },
    silence: { type: 'string', value: 'WHAT', about: 'When the broker is silent: strict, or seconds to go on.' },
    replace: { type: 'boolean', about: 'Withdraw the other offers of this dataset.' },
    templates: { type: 'boolean', about: 'List the policy templates.' },
  },
  run: async (parsed, terminal) => {
    if (parsed.flag('templates')) return showTemplates(terminal, parsed.flag('json'));
    const source = argument(parsed, 'a SOURCE', publish);
    const body = bodyOf(source, parsed);
    const answer = await connect(terminal.env, connectorPort).post('/v1/publications', body, published);
    if (parsed.flag('json')) terminal.out(JSON.stringify(answer));
    else show(answer, terminal);
    return 0;
  },
};
