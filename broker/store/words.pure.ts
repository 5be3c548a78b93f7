/** Words as they are compared: lower case, without diacritics, so that `Coördinatie` and `coordinatie` meet. */

const maxWordLength = 40;
const maxWords = 200;
const maxTerms = 8;

/** Letters that decomposition leaves whole. */
const plainLetters: Readonly<Record<string, string>> = {
  ß: 'ss',
  æ: 'ae',
  œ: 'oe',
  ø: 'o',
  đ: 'd',
  ł: 'l',
  þ: 'th',
  ð: 'd',
};

/** Words that carry no question, in Dutch and English. */
const fillers = new Set(
  (
    'de het een en of in op aan van voor met zonder bij naar over uit tot te ten ter dat die dit deze is zijn was er ik mijn ' +
    'wij we ons onze jij je uw hun hoe wat waar welke wie wanneer heb heeft kan kunnen the a an and or of on for with ' +
    'without to at by from is are was my our your their how what where which who when do does can'
  ).split(' '),
);

/** The words of a text, in order, as they are compared; single characters are none. */
const split = (text: string): readonly string[] =>
  text
    .toLowerCase()
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .replace(/[ßæœøđłþð]/g, (letter) => plainLetters[letter] ?? letter)
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word.length > 1)
    .map((word) => word.slice(0, maxWordLength));

/** The words a listing is found by, each once. */
export const wordsOf = (texts: readonly string[]): readonly string[] =>
  [...new Set(texts.flatMap(split))].slice(0, maxWords);

/**
 * What is asked for: beginnings of words. Fillers are left out, unless there is nothing else; one that another begins with
 * is left out too.
 *
 * @example termsOf('Wateroverlast in mijn wijk') // ['wateroverlast', 'wijk']
 */
export const termsOf = (question: string): readonly string[] => {
  const words = [...new Set(split(question))];
  const meant = words.filter((word) => !fillers.has(word));
  const terms = meant.length > 0 ? meant : words;
  return terms.filter((term) => !terms.some((other) => other !== term && other.startsWith(term))).slice(0, maxTerms);
};
