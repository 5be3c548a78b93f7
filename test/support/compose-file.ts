import { readFileSync } from 'node:fs';
import { z } from 'zod';

/**
 * Reads docker-compose.yml: so much of YAML as that file uses (maps by indentation, lists in brackets, plain and quoted text),
 * and nothing else. The test that has `docker-compose` compares the outcome with its own.
 */

type Node = string | readonly string[] | { [key: string]: Node };

const service = z.object({
  command: z.array(z.string()),
  image: z.string(),
  environment: z.record(z.string(), z.string()).default({}),
  secrets: z.array(z.string()),
  volumes: z.array(z.string()),
  ports: z.array(z.string()).default([]),
  healthcheck: z.object({ test: z.array(z.string()) }),
});
const composeFile = z.object({
  services: z.record(z.string(), service),
  secrets: z.record(z.string(), z.object({ file: z.string() })),
});
export type ComposeFile = z.infer<typeof composeFile>;
export type ComposeService = z.infer<typeof service>;

const unquoted = (text: string): string => (/^".*"$/.test(text) ? text.slice(1, -1) : text);

/** `${NAME:-default}`, as compose fills it in. */
const filled = (text: string, env: Readonly<Record<string, string>>): string =>
  text.replaceAll(/\$\{(\w+):-([^}]*)\}/g, (_all, name: string, fallback: string) => env[name] ?? fallback);

const scalarOrList = (text: string): Node => {
  if (!text.startsWith('[')) return unquoted(text);
  if (!text.endsWith(']')) throw new Error(`a list that does not end on its line: ${text}`);
  return text
    .slice(1, -1)
    .split(',')
    .map((item) => unquoted(item.trim()));
};

/** A list that stands below its key, on one line or several, moved to the line of the key. */
const onOneLine = (text: string): string =>
  text.replaceAll(
    /:\n\s*\[([^\]]*)\]/g,
    (_all, items: string) =>
      `: [${items
        .trim()
        .replace(/,$/, '')
        .replaceAll(/\s*\n\s*/g, ' ')}]`,
  );

/** Reads the file; variables as they are given, or their defaults. */
export const readCompose = (path: string, env: Readonly<Record<string, string>> = {}): ComposeFile => {
  const root: { [key: string]: Node } = {};
  const open: { readonly indent: number; readonly map: { [key: string]: Node } }[] = [{ indent: -1, map: root }];
  for (const line of onOneLine(filled(readFileSync(path, 'utf8'), env)).split('\n')) {
    if (/^\s*(#.*)?$/.test(line)) continue;
    const [, spaces, key, text] = /^( *)([\w-]+):(?: (.+))?$/.exec(line) ?? [];
    if (spaces === undefined || key === undefined) throw new Error(`a line that is not read here: ${line}`);
    while ((open.at(-1)?.indent ?? -1) >= spaces.length) open.pop();
    const value = text === undefined ? {} : scalarOrList(text);
    const parent = open.at(-1)?.map ?? root;
    parent[key] = value;
    if (typeof value === 'object' && !Array.isArray(value))
      open.push({ indent: spaces.length, map: value as { [key: string]: Node } });
  }
  return composeFile.parse(root);
};
