import { createHash } from 'node:crypto';
import { z } from 'zod';

/** How the application reads data: from its own connector, which adds token and proof (wire §5). */

export interface Gateway {
  readonly url: string;
  /** The application's own key at its connector. */
  readonly key: string;
  readonly purpose: string;
  readonly run: string;
}

/** One answer, as provenance names it. */
export interface Input {
  readonly agreement: string;
  readonly request: string;
  readonly path: string;
  readonly bytes: number;
  /** b64u SHA-256 of the bytes. */
  readonly digest: string;
}

const page = z.looseObject({
  links: z.array(z.looseObject({ rel: z.string(), href: z.string() })).optional(),
  features: z.array(
    z.looseObject({
      id: z.union([z.string(), z.number()]).optional(),
      geometry: z.looseObject({ coordinates: z.unknown() }),
      properties: z.record(z.string(), z.unknown()),
    }),
  ),
});
export type FeatureOf = z.infer<typeof page>['features'][number];

const maxPages = 200;

const fetchPage = async (gateway: Gateway, agreement: string, path: string) => {
  const url = `${gateway.url}/data/${encodeURIComponent(agreement)}/${path}`;
  const response = await fetch(url, {
    headers: {
      authorization: `Bearer ${gateway.key}`,
      'stekker-purpose': gateway.purpose,
      'stekker-run': gateway.run,
    },
  });
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (!response.ok) throw new Error(`${path}: ${response.status} ${Buffer.from(bytes).toString('utf8').slice(0, 500)}`);
  const digest = createHash('sha256').update(bytes).digest('base64url');
  const request = response.headers.get('stekker-request') ?? '';
  const input: Input = { agreement, request, path, bytes: bytes.length, digest };
  return { input, body: page.parse(JSON.parse(Buffer.from(bytes).toString('utf8'))) };
};

/** All features of a collection, page by page, and what was fetched for them. */
export const readCollection = async (
  gateway: Gateway,
  agreement: string,
  collection: string,
): Promise<{ readonly features: readonly FeatureOf[]; readonly inputs: readonly Input[] }> => {
  const features: FeatureOf[] = [];
  const inputs: Input[] = [];
  let path: string | undefined = `collections/${collection}/items?limit=500`;
  for (let count = 0; path !== undefined && count < maxPages; count += 1) {
    const { input, body } = await fetchPage(gateway, agreement, path);
    features.push(...body.features);
    inputs.push(input);
    const next = body.links?.find(({ rel }) => rel === 'next')?.href;
    path = next === undefined ? undefined : `collections/${collection}/${next}`;
  }
  return { features, inputs };
};
