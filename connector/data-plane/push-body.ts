import { Readable, Writable } from 'node:stream';

/** What a push is written into: the body of a request to the consumer, or, where there is nothing to send, our own reason. */

export type Delivery =
  | { readonly state: 'open' | 'delivered' }
  /** The consumer's address answered something else than 2xx. */
  | { readonly state: 'refused'; readonly status: number }
  /** No request went out: the access was refused, or the source had no 200 to give. */
  | { readonly state: 'withheld'; readonly status: number; readonly text: string }
  | { readonly state: 'failed'; readonly error: unknown };

/** Sends a body; resolves with the status of the answer. */
export type Send = (headers: Readonly<Record<string, string>>, body: AsyncIterable<Uint8Array>) => Promise<number>;

const maxHeldBytes = 1_048_576;
const maxText = 16_384;
/** Of the source's answer, what says what the bytes are. */
const passed: ReadonlySet<string> = new Set([
  'content-encoding',
  'content-language',
  'content-length',
  'content-type',
  'etag',
  'last-modified',
]);

const isAccepted = (status: number): boolean => status >= 200 && status < 300;

/** Looks like an answer to whoever writes it. It is finished only when the consumer has said that it has everything. */
export class PushBody extends Writable {
  readonly #send: Send;
  #delivery: Delivery = { state: 'open' };
  #answer: Promise<void> | null = null;
  #text = '';
  #next: (() => void) | null = null;
  /** Apart from what is written to: whoever sends it closes it as soon as it is read. */
  readonly #body = new Readable({ highWaterMark: maxHeldBytes, read: () => this.#onWanted() });

  constructor(send: Send) {
    super({ highWaterMark: maxHeldBytes });
    this.#send = send;
    for (const one of [this, this.#body]) one.on('error', () => undefined); // told by `delivery`
  }

  /** What became of it; certain once the request has been answered. */
  async delivery(): Promise<Delivery> {
    await this.#answer;
    return this.#delivery;
  }

  writeHead(status: number, headers: readonly string[]): void {
    if (status !== 200) {
      this.#delivery = { state: 'withheld', status, text: '' };
      return;
    }
    const own: Record<string, string> = {};
    for (let index = 0; index < headers.length; index += 2) {
      const name = headers[index] ?? '';
      if (passed.has(name)) own[name] = headers[index + 1] ?? '';
    }
    this.#answer = this.#send(own, this.#body).then(
      (answered) => this.#answered(answered),
      (error: unknown) => this.#failed(error),
    );
  }

  #answered(status: number): void {
    this.#delivery = isAccepted(status) ? { state: 'delivered' } : { state: 'refused', status };
    if (!isAccepted(status)) this.destroy(new Error(`the address answered ${status}`));
  }

  #failed(error: unknown): void {
    if (this.#delivery.state === 'open') this.#delivery = { state: 'failed', error };
    this.destroy();
  }

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    if (this.#delivery.state === 'withheld') {
      this.#text = `${this.#text}${Buffer.from(chunk).toString('utf8')}`.slice(0, maxText);
      this.#delivery = { ...this.#delivery, text: this.#text };
      done();
    } else if (this.#body.push(chunk)) done();
    else this.#next = done;
  }

  #onWanted(): void {
    const next = this.#next;
    this.#next = null;
    next?.();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#body.push(null);
    if (this.#answer === null) done();
    else
      void this.#answer.then(() =>
        done(this.#delivery.state === 'delivered' ? null : new Error('the push did not arrive')),
      );
  }
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (!this.writableFinished) this.#body.destroy(error ?? new Error('the push was cut'));
    done(error);
  }
}
