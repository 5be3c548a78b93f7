import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import type { GuardedClient } from '../../../kernel/http/client.ts';
import type { AnswerSink, Flow, HttpFetch } from '../../data-plane/ports.ts';

/** Streamed requests over the guarded client's dispatcher: the dispatcher's own interface, because streams and promises cost (hot-path). */

/** A source that says nothing for this long has failed. */
const headersTimeoutMs = 30_000;
const bodyTimeoutMs = 60_000;

const unwanted = new Error('nobody wants the answer any more');

const listOf = (headers: IncomingHttpHeaders): string[] => {
  const out: string[] = [];
  for (const name in headers) {
    const value = headers[name];
    if (typeof value === 'string') out.push(name, value);
    else for (const one of value ?? []) out.push(name, one);
  }
  return out;
};

/** One running request. */
class Ask implements Dispatcher.DispatchHandler, Flow {
  readonly #sink: AnswerSink;
  #controller: Dispatcher.DispatchController | null = null;
  #isAsked = false;
  #isPaused = false;
  #isOver = false;

  constructor(sink: AnswerSink) {
    this.#sink = sink;
  }

  /** From now on the sink may be called. */
  asked(): void {
    this.#isAsked = true;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#isOver) this.abort();
    else if (this.#isPaused) controller.pause();
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (!this.#isOver && status >= 200) this.#sink.head(status, listOf(headers));
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    if (!this.#isOver) this.#sink.data(chunk);
  }

  onResponseEnd(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#sink.end();
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    if (this.#isOver) return;
    if (!this.#isAsked) {
      setImmediate(() => this.onResponseError(null, error));
      return;
    }
    this.#isOver = true;
    this.#sink.fail(error);
  }

  pause(): void {
    this.#isPaused = true;
    this.#controller?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#controller?.resume();
  }

  abort(): void {
    this.#isOver = true;
    this.#controller?.abort(unwanted);
  }
}

/** Streamed requests; a request that cannot be made at all fails on a later turn of the loop, like any other. */
export const createHttpFetch = (client: Pick<GuardedClient, 'check' | 'dispatcher'>): HttpFetch => ({
  check: client.check,
  ask: ({ origin, path, method, headers }, sink) => {
    const flow = new Ask(sink);
    const timeouts = { headersTimeout: headersTimeoutMs, bodyTimeout: bodyTimeoutMs };
    client.dispatcher.dispatch({ origin, path, method, headers: [...headers], ...timeouts }, flow);
    flow.asked();
    return flow;
  },
});
