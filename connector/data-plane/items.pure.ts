/**
 * Counts the elements of the top-level array `features` of a document as it streams by (wire §2 `items`). It does not check
 * the JSON: both sides count the same bytes with the same rules, and a document that is none counts as nothing.
 */

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const colon = 0x3a;
const name = 'features';

export interface ItemCounter {
  readonly push: (bytes: Uint8Array) => void;
  /** Null when there was no such array, more than one, or the document has no end. */
  readonly total: () => number | null;
}

interface State {
  depth: number;
  inString: boolean;
  escaped: boolean;
  /** The string at depth 1 as far as it can still be the name. */
  text: string;
  /** Whether the last string at depth 1 was the name, and a value follows. */
  isName: boolean;
  atValue: boolean;
  isObject: boolean;
  inList: boolean;
  hasElement: boolean;
  items: number;
  lists: number;
  isOver: boolean;
}

const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

const stringByte = (its: State, byte: number): void => {
  if (its.escaped) its.escaped = false;
  else if (byte === backslash) its.escaped = true;
  else if (byte === quote) {
    its.inString = false;
    if (its.depth === 1 && !its.atValue) its.isName = its.text === name;
    return;
  }
  if (its.depth === 1 && its.text.length <= name.length) its.text += String.fromCharCode(byte);
};

const open = (its: State, byte: number): void => {
  if (its.depth === 0) its.isObject = byte === openBrace;
  else if (its.depth === 1 && its.isObject && its.isName && its.atValue && byte === openBracket) {
    its.inList = true;
    its.hasElement = false;
    its.lists += 1;
  } else if (its.inList && its.depth === 2) its.hasElement = true;
  its.depth += 1;
};

const close = (its: State): void => {
  its.depth -= 1;
  if (its.depth === 1 && its.inList) {
    its.items += its.hasElement ? 1 : 0;
    its.inList = false;
  }
  if (its.depth === 0) its.isOver = true;
};

/** A comma ends an element of the list, or a member of the document. */
const separate = (its: State): void => {
  if (its.inList && its.depth === 2) its.items += 1;
  if (its.depth === 1) {
    its.atValue = false;
    its.isName = false;
  }
};

const valueByte = (its: State, byte: number): void => {
  if (its.inList && its.depth === 2) its.hasElement = true;
  if (byte !== quote) return;
  its.inString = true;
  its.text = '';
};

const plainByte = (its: State, byte: number): void => {
  if (byte === openBrace || byte === openBracket) open(its, byte);
  else if (byte === closeBrace || byte === closeBracket) close(its);
  else if (byte === comma) separate(its);
  else if (byte === colon) its.atValue ||= its.depth === 1;
  else if (!isSpace(byte)) valueByte(its, byte);
};

export const createItemCounter = (): ItemCounter => {
  const its: State = {
    depth: 0,
    inString: false,
    escaped: false,
    text: '',
    isName: false,
    atValue: false,
    isObject: false,
    inList: false,
    hasElement: false,
    items: 0,
    lists: 0,
    isOver: false,
  };
  return {
    push: (bytes) => {
      for (const byte of bytes) {
        if (its.inString) stringByte(its, byte);
        else plainByte(its, byte);
      }
    },
    total: () => (its.isOver && its.depth === 0 && its.lists === 1 ? its.items : null),
  };
};
