import type { Input } from './gateway.ts';

/** Where a result comes from, as PROV-O in JSON-LD: inputs by digest, under which agreements, by which program. */

export interface ProvenanceParts {
  readonly result: { readonly file: string; readonly digest: string };
  readonly inputs: readonly (Input & { readonly title: string })[];
  readonly program: { readonly id: string; readonly version: string; readonly digest: string };
  readonly run: string;
  readonly purpose: string;
  readonly startedAt: string;
  readonly endedAt: string;
}

const digestUrn = (digest: string): string => `urn:stekker:1:sha256:${digest}`;

export const provenanceOf = (parts: ProvenanceParts) => ({
  '@context': {
    prov: 'http://www.w3.org/ns/prov#',
    dct: 'http://purl.org/dc/terms/',
    xsd: 'http://www.w3.org/2001/XMLSchema#',
    stekker: 'urn:stekker:1:',
  },
  '@graph': [
    {
      '@id': digestUrn(parts.result.digest),
      '@type': 'prov:Entity',
      'dct:title': parts.result.file,
      'prov:wasGeneratedBy': { '@id': `urn:uuid:${parts.run}` },
      'prov:wasDerivedFrom': parts.inputs.map(({ digest }) => ({ '@id': digestUrn(digest) })),
    },
    {
      '@id': `urn:uuid:${parts.run}`,
      '@type': 'prov:Activity',
      'stekker:purpose': { '@id': parts.purpose },
      'prov:startedAtTime': { '@type': 'xsd:dateTime', '@value': parts.startedAt },
      'prov:endedAtTime': { '@type': 'xsd:dateTime', '@value': parts.endedAt },
      'prov:used': parts.inputs.map(({ digest }) => ({ '@id': digestUrn(digest) })),
      'prov:wasAssociatedWith': { '@id': `${parts.program.id}@${parts.program.version}` },
    },
    {
      '@id': `${parts.program.id}@${parts.program.version}`,
      '@type': ['prov:SoftwareAgent', 'prov:Agent'],
      'stekker:version': parts.program.version,
      'stekker:digest': parts.program.digest,
    },
    ...parts.inputs.map(({ digest, bytes, agreement, request, path, title }) => ({
      '@id': digestUrn(digest),
      '@type': 'prov:Entity',
      'dct:title': title,
      'dct:source': path,
      'stekker:bytes': bytes,
      'stekker:request': request,
      'stekker:agreement': { '@id': agreement },
    })),
  ],
});
