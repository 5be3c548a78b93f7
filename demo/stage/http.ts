/** The little HTTP that the demo speaks itself; everything else goes through the command line. */

export interface Ask {
  readonly signal: AbortSignal;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON, with POST. */
  readonly body?: unknown;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

const timeoutMs = 20_000;

export const ask = async (url: string, { signal, headers = {}, body }: Ask): Promise<Answer> => {
  const response = await fetch(url, {
    headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    redirect: 'error',
    signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
};

/** The JSON of a 2xx answer. @throws with the answer when it is another. */
export const askJson = async (url: string, options: Ask): Promise<unknown> => {
  const { status, text } = await ask(url, options);
  if (status < 200 || status > 299) throw new Error(`${url} answered ${status}: ${text.slice(0, 500)}`);
  return JSON.parse(text);
};
