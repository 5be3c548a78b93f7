import { BlockList, isIP } from 'node:net';

/** Which addresses an outbound call may reach (credentials §6, DESIGN §5.8). */

const refusedV4 = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const) {
  refusedV4.addSubnet(network, prefix, 'ipv4');
}

const globalV6 = new BlockList();
globalV6.addSubnet('2000::', 3, 'ipv6');

/** Inside 2000::/3, and yet no ordinary hosts: documentation, tunnels that carry any IPv4 address, benchmarks. */
const refusedV6 = new BlockList();
for (const [network, prefix] of [
  ['2001:db8::', 32],
  ['2002::', 16],
  ['2001::', 23],
  ['3fff::', 20],
] as const) {
  refusedV6.addSubnet(network, prefix, 'ipv6');
}

/** Whether an address is one of the public internet: not private, loopback, link-local, mapped, tunnelled or reserved. */
export const isPublicAddress = (address: string): boolean => {
  switch (isIP(address)) {
    case 4:
      return !refusedV4.check(address, 'ipv4');
    case 6:
      return globalV6.check(address, 'ipv6') && !refusedV6.check(address, 'ipv6');
    default:
      return false;
  }
};

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

export const isLoopbackAddress = (address: string): boolean => {
  const family = isIP(address);
  return family !== 0 && loopback.check(address, family === 4 ? 'ipv4' : 'ipv6');
};

const localNames = /(^|\.)(localhost|local|internal|home\.arpa|localdomain)\.?$/i;
const hidesPath = /%2e|%2f|%5c|\\/i;
const lowestPort = 1024;

export interface AddressRules {
  /** Development only: plain HTTP to `localhost`. */
  readonly allowLoopbackHttp: boolean;
  /**
   * Origins that the operator of this deployment configured, such as its own node of a chain: reached wherever they are, also
   * in the clear. Only for a client of their own; one that calls what others name must never have any.
   */
  readonly operatorOrigins?: readonly string[];
}

/** What no URL may have, wherever it leads. */
const faultOfUrl = (url: URL, text: string): string | undefined => {
  if (url.username !== '' || url.password !== '') return 'it holds a user name or password';
  if (url.hash !== '') return 'it has a fragment';
  return hidesPath.test(text.split('?', 1)[0] ?? '') ? 'its path hides separators' : undefined;
};

const faultOfHost = (url: URL): string | undefined => {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (url.protocol !== 'https:') return 'it is not https';
  if (isIP(host) !== 0) return 'it names an address instead of a host';
  if (localNames.test(host) || !host.includes('.')) return 'it names a local host';
  return url.port !== '' && Number(url.port) < lowestPort ? 'its port is not one for this' : undefined;
};

/** Why a URL may not be called, or undefined when it may; names are resolved and checked again at connect time. */
export const refusalOf = (text: string, rules: AddressRules): string | undefined => {
  if (text.length > 2048 || !URL.canParse(text)) return 'it is no URL, or too long';
  const url = new URL(text);
  const isLocal = rules.allowLoopbackHttp && url.hostname === 'localhost' && /^https?:$/.test(url.protocol);
  const isOperators = rules.operatorOrigins?.includes(url.origin) === true;
  return faultOfUrl(url, text) ?? (isLocal || isOperators ? undefined : faultOfHost(url));
};
