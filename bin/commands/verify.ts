import { readFileSync } from 'node:fs';
import { verifyAnchor } from '../../contracts/anchor/proof.ts';
import { textOf } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import { parseCanonical } from '../../contracts/json.ts';
import { check } from '../../contracts/ledger/forms.ts';
import { type TrustFile, trustFile } from '../../contracts/ledger/receipt.ts';
import {
  type ExitCode,
  type NotChecked,
  type Step,
  type Verdict,
  type VerifyTools,
  verifyReceipt,
} from '../../contracts/ledger/verify.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { type Command, required, type Terminal } from '../command.ts';

type Language = 'en' | 'nl';

const maxFileBytes = 512 * 1024 * 1024;

const stepTitles: Readonly<Record<Language, Readonly<Record<Step['step'], string>>>> = {
  en: {
    0: 'form of the file',
    1: 'record in the statement',
    2: 'signatures, by keys that counted',
    3: 'one agreement, parties, price and asset',
    4: 'log entries commit to their artifacts',
    5: 'entries in the log, checkpoint signed',
    6: 'anchor on a chain',
  },
  nl: {
    0: 'vorm van het bestand',
    1: 'gebruik staat in de verklaring',
    2: 'handtekeningen, met sleutels die telden',
    3: 'één overeenkomst, partijen, prijs en bron',
    4: 'logboekregels leggen hun stukken vast',
    5: 'regels staan in het logboek, ijkpunt ondertekend',
    6: 'verankerd op een keten',
  },
};

const states: Readonly<Record<Language, Readonly<Record<Step['state'], string>>>> = {
  en: { ok: 'ok', failed: 'FAILED', untrusted: 'untrusted', withheld: 'withheld', none: 'none' },
  nl: { ok: 'goed', failed: 'FOUT', untrusted: 'niet vertrouwd', withheld: 'achtergehouden', none: 'geen' },
};

const notChecked: Readonly<Record<Language, Readonly<Record<NotChecked, string>>>> = {
  en: {
    'omitted-key-events':
      'that no event that ends a key, and no other first key event of the same DID, was left out of this file',
    'other-statements': 'whether other statements were signed for the same number',
    'later-statements': 'later statements under the same agreement',
    'unrecorded-accesses': 'accesses that were never recorded',
    'consumer-counted': 'that the consumer counted by itself, and did not just sign what the provider counted',
    'leaf-key-holder': 'who held the one-time keys of the log entries',
    'split-view': 'that the log showed no other tree to others: no witnesses are required',
    'anchor-block': 'whether the block of an anchor is part of its chain: nobody in the trust file vouches for it',
    possession: 'that the consumer held its key: under plain-dsp only the provider signs',
  },
  nl: {
    'omitted-key-events':
      'dat geen gebeurtenis die een sleutel beëindigt, en geen andere eerste sleutel van dezelfde DID, is weggelaten',
    'other-statements': 'of er andere verklaringen met hetzelfde nummer zijn ondertekend',
    'later-statements': 'latere verklaringen onder dezelfde overeenkomst',
    'unrecorded-accesses': 'gebruik dat nooit is vastgelegd',
    'consumer-counted': 'dat de afnemer zelf heeft geteld, en niet enkel tekende wat de aanbieder telde',
    'leaf-key-holder': 'wie de eenmalige sleutels van de logboekregels had',
    'split-view': 'dat het logboek aan anderen geen andere boom liet zien: er zijn geen getuigen vereist',
    'anchor-block':
      'of het blok van een anker bij zijn keten hoort: niemand in het vertrouwensbestand staat daarvoor in',
    possession: 'dat de afnemer zijn sleutel had: onder plain-dsp tekent alleen de aanbieder',
  },
};

const outcomes: Readonly<Record<Language, Readonly<Record<ExitCode, string>>>> = {
  en: {
    0: 'VALID',
    1: 'FAILED',
    2: 'CANNOT BE EVALUATED',
    3: 'UNTRUSTED: all holds, but nothing in your trust file vouches for it',
    4: 'VALID, with withheld parts',
  },
  nl: {
    0: 'GELDIG',
    1: 'ONGELDIG',
    2: 'NIET TE BEOORDELEN',
    3: 'NIET VERTROUWD: alles klopt, maar niets in uw vertrouwensbestand staat ervoor in',
    4: 'GELDIG, met achtergehouden delen',
  },
};

const tools: VerifyTools = {
  crypto: nodeCrypto,
  verifyAnchor: (anchor, checkpoint, chains) =>
    verifyAnchor({ keccak256, sha256: nodeCrypto.sha256 }, anchor, checkpoint, chains),
};

const readText = (path: string): string | undefined => {
  try {
    const bytes = readFileSync(path);
    return bytes.length > maxFileBytes ? undefined : textOf(bytes);
  } catch {
    return undefined;
  }
};

const readTrust = (path: string): TrustFile => {
  const text = readText(path);
  const value = text === undefined ? undefined : parseCanonical(text.trimEnd());
  const trust = value === undefined ? undefined : check(trustFile, value);
  if (trust?.ok === true) return trust.value;
  const why = trust === undefined ? 'is not there or is not canonical JSON' : trust.reason;
  throw new AppError('invalid-request', {
    detail: `the trust file ${path} ${why}. Make one with: stekker trust --broker URL --out FILE`,
  });
};

const unreadable: Verdict = {
  code: 2,
  steps: [{ step: 0, state: 'failed', detail: 'the file is not there, too large, or not UTF-8' }],
  notChecked: [],
  facts: undefined,
};

const printVerdict = (terminal: Terminal, path: string, verdict: Verdict, language: Language): void => {
  terminal.out(path);
  const { facts } = verdict;
  if (facts !== undefined) {
    terminal.out(`  ${facts.provider} → ${facts.consumer}`);
    terminal.out(
      `  ${facts.asset} · ${facts.agreement} · ${facts.assurance} · ${facts.records} × · statement ${facts.statement}`,
    );
  }
  for (const step of verdict.steps) {
    terminal.out(`  ${step.step} ${stepTitles[language][step.step]}: ${states[language][step.state]} – ${step.detail}`);
  }
  terminal.out(`  ${outcomes[language][verdict.code]}`);
};

/** The graver of two codes: failed, then cannot be evaluated, then untrusted, then withheld, then valid. */
const gravest = (codes: readonly ExitCode[]): ExitCode => {
  const order: readonly ExitCode[] = [1, 2, 3, 4, 0];
  return order.find((code) => codes.includes(code)) ?? 2;
};

/** Verifies receipts from files alone (ledger §11). */
export const verify: Command = {
  name: 'verify',
  summary: 'Verify receipts from files alone, without a network.',
  usage: 'FILE… --trust FILE',
  about: `Checks each receipt step by step against your trust file, and tells what a receipt cannot show.
Exit code: 0 valid, 1 failed, 2 cannot be evaluated, 3 untrusted, 4 valid with withheld parts; of several files the gravest.`,
  examples: [
    'stekker verify receipt.json --trust trust.json',
    'stekker verify receipts/*.json --trust trust.json --lang nl --json',
  ],
  options: {
    trust: { type: 'string', value: 'FILE', about: 'Your trust file: the logs and blocks you rely on.' },
    lang: { type: 'string', value: 'en|nl', about: 'Language of the report; default en.' },
  },
  run: async (parsed, terminal) => {
    if (parsed.positionals.length === 0) {
      throw new AppError('invalid-request', { detail: 'a receipt file is needed. See: stekker verify --help' });
    }
    const trust = readTrust(required(parsed, 'trust', verify));
    const language: Language = parsed.text('lang') === 'nl' ? 'nl' : 'en';
    const verdicts = parsed.positionals.map((path) => {
      const text = readText(path);
      return { path, verdict: text === undefined ? unreadable : verifyReceipt(tools, trust, text.trimEnd()) };
    });
    const code = gravest(verdicts.map(({ verdict }) => verdict.code));
    if (parsed.flag('json')) {
      terminal.out(JSON.stringify({ code, files: verdicts.map(({ path, verdict }) => ({ path, ...verdict })) }));
      return code;
    }
    for (const { path, verdict } of verdicts) printVerdict(terminal, path, verdict, language);
    const open = new Set(verdicts.flatMap(({ verdict }) => verdict.notChecked));
    terminal.out(language === 'nl' ? 'Niet gecontroleerd:' : 'Not checked:');
    for (const item of open) terminal.out(`  - ${notChecked[language][item]}`);
    return code;
  },
};
