/** Addresses of Redis, as a setting gives them. Apart from the driver, which is loaded only when there are some. */

export interface RedisUrls {
  readonly urls: readonly URL[];
  readonly isCluster: boolean;
}

const schemes = ['redis:', 'rediss:', 'redis+cluster:', 'rediss+cluster:'];

const readUrl = (text: string): URL | undefined => {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  const isGood = schemes.includes(url.protocol) && url.hostname !== '' && url.search === '' && url.hash === '';
  return isGood && /^\/?\d{0,2}$/.test(url.pathname) ? url : undefined;
};

/** Reads a comma list of addresses; more than one, or a scheme with `+cluster`, means a Cluster. Undefined for what is none. */
export const readRedisUrls = (text: string): RedisUrls | undefined => {
  const urls = text.split(',').map((one) => readUrl(one.trim()));
  const known = urls.filter((url) => url !== undefined);
  const [first] = known;
  if (first === undefined || known.length !== urls.length) return undefined;
  const isCluster = known.length > 1 || first.protocol.endsWith('+cluster:');
  const isSame = known.every(
    ({ protocol, username, password }) =>
      protocol === first.protocol && username === first.username && password === first.password,
  );
  // A Cluster has one data base, and one user on every node.
  return isSame && !(isCluster && known.some(({ pathname }) => pathname.length > 1))
    ? { urls: known, isCluster }
    : undefined;
};
